//! Maps addresses to functions and lines.

use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use anyhow::{Context as _, Result};
use object::elf::{FileHeader64, SHT_SYMTAB, STT_FUNC};
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};
use std::fmt::Write as _;
use std::path::Path;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The start of a line of a panicking kernel that holds a return address.
const BACKTRACE: &str = "  backtrace 0x";

/// The return addresses in the output of a panicking kernel.
#[must_use]
pub fn backtrace(console: &str) -> Vec<u64> {
    let digits = |line: &str| Some(line.strip_prefix(BACKTRACE)?.trim().to_owned());
    let address = |line: &str| u64::from_str_radix(&digits(line)?, 16).ok();
    console.lines().filter_map(address).collect()
}

/// One line for each of these return addresses, and one for each function inlined there.
///
/// # Errors
/// The image cannot be read, or holds no line information.
pub fn symbolise(image: &Path, addresses: &[u64]) -> Result<String> {
    let bytes = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let dwarf = load(&bytes).with_context(|| format!("{} has no symbols", image.display()))?;
    let context = addr2line::Context::from_dwarf(dwarf)?;
    let mut text = String::new();
    for &address in addresses {
        let _ = writeln!(text, "  {address:#018x}");
        // A return address is one past the call, and may already belong to the next line.
        for frame in frames(&context, address - 1)? {
            let _ = writeln!(text, "      {frame}");
        }
    }
    Ok(text)
}

/// A function of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The name in the source, without the compiler's hash.
    pub name: String,
    /// The address of its first instruction.
    pub address: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The functions in the symbol table of an image, by address.
///
/// # Errors
/// The image is not a 64-bit ELF file.
pub fn functions(image: &[u8]) -> Result<Vec<Function>> {
    let header = FileHeader64::<object::LittleEndian>::parse(image).context("not a 64-bit ELF file")?;
    let endian = header.endian()?;
    let sections = header.sections(endian, image)?;
    let table = sections.symbols(endian, image, SHT_SYMTAB)?;
    let mut found = Vec::new();
    for symbol in table.iter().filter(|symbol| symbol.st_type() == STT_FUNC && symbol.st_size(endian) > 0) {
        let name = String::from_utf8_lossy(symbol.name(endian, table.strings())?);
        let name = addr2line::demangle_auto(name, None).into_owned();
        found.push(Function { name, address: symbol.st_value(endian), bytes: symbol.st_size(endian) });
    }
    found.sort_by_key(|function| function.address);
    Ok(found)
}

fn load(bytes: &[u8]) -> Result<Dwarf<Slice<'_>>> {
    let header = FileHeader64::<object::LittleEndian>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    Dwarf::load(|id: SectionId| {
        let section = sections.section_by_name(endian, id.name().as_bytes());
        let data = section.map(|(_, section)| section.data(endian, bytes)).transpose()?;
        Ok(Slice::new(data.unwrap_or_default(), LittleEndian))
    })
}

fn frames(context: &addr2line::Context<Slice<'_>>, address: u64) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut frames = context.find_frames(address).skip_all_loads()?;
    while let Some(frame) = frames.next()? {
        let name = match &frame.function {
            Some(function) => function.demangle()?.into_owned(),
            None => "?".to_owned(),
        };
        let place = frame.location.and_then(|at| Some(format!("{}:{}", at.file?, at.line?)));
        found.push(format!("{name}  {}", place.unwrap_or_default()));
    }
    if found.is_empty() {
        found.push("?".to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backtraces_are_found() {
        let console = "panic: x\n  backtrace 0xffffffff80101234\r\n backtrace 0x1\n  backtrace 0x10\n";
        assert_eq!(backtrace(console), [0xffff_ffff_8010_1234, 0x10]);
    }

    #[test]
    fn own_code_has_a_name() {
        #[inline(never)]
        fn landmark() -> u64 {
            std::hint::black_box(landmark as fn() -> u64 as usize as u64)
        }
        // The test executable is position independent: find its own load address.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let exe = std::env::current_exe().unwrap();
        let own = maps.lines().find(|line| line.ends_with(&*exe.to_string_lossy()));
        let Some(base) = own.and_then(|line| line.split('-').next()) else { return };
        let base = u64::from_str_radix(base, 16).unwrap();
        let text = symbolise(&exe, &[landmark() - base + 2]).unwrap();
        assert!(text.contains("landmark") && text.contains("symbols.rs"), "{text}");
    }
}
