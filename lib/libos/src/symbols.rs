//! Names of functions, from the program's own file. `cargo xtask` leaves a symbol table in the file, which is read in
//! place, in the boot archive.

use crate::{Va, archive, resident::Local};
use elf::{ElfBytes, endian::LittleEndian};

#[unsafe(link_section = ".resident")]
static FILE: Local<Option<archive::File>> = Local::new(None);

/// The program's own file.
#[must_use]
pub fn own_file() -> Option<archive::File> {
    FILE.get()
}

pub(crate) fn set_own_file(file: Option<archive::File>) {
    FILE.set(file);
}

/// A function of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// The name, as in the source.
    pub name: &'static str,
    /// The address of the first instruction.
    pub start: Va,
}

/// The function that contains an address.
#[must_use]
pub fn lookup(va: Va) -> Option<Function> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(own_file()?.data).ok()?;
    let (symbols, names) = elf.symbol_table().ok()??;
    let symbol = symbols.iter().find(|symbol| va.0.wrapping_sub(symbol.st_value) < symbol.st_size)?;
    let name = names.get(symbol.st_name as usize).ok()?;
    Some(Function { name, start: Va(symbol.st_value) })
}

/// The name of the function that contains an address.
#[must_use]
pub fn function_at(va: Va) -> Option<&'static str> {
    lookup(va).map(|function| function.name)
}
