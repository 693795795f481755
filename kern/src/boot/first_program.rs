//! The first environment: the only program that the kernel loads itself, and the only one that is completely loaded
//! before it runs.

use crate::env::table::{Env, with_page_map};
use crate::env::{life, scheduler};
use crate::machine::windows::{self, archive, bytes};
use crate::machine::{hardware::MEMORY, power, print};
use abi::{Error, PAGE_SIZE, Perms, Registers, Va, layout::STACK_TOP};
use core::{fmt, sync::atomic::Ordering::Relaxed};
use executable::{Program, Segment};
use firmware::BootInfo;
use sched::Node;
use tar_no_std::TarArchiveRef;

/// Loads the program that the command line names, and makes it runnable. If that fails, the machine ends with the
/// reason.
pub fn load(boot: &'static BootInfo) {
    let name = boot.word("init=").unwrap_or("init");
    let give_up = |why: &dyn fmt::Display| -> ! {
        print::kprintln!("cannot start the first program, {name:?}: {why}");
        power::off(abi::ExitStatus::TOOL_FAILED)
    };
    let file = find(name).unwrap_or_else(|why| give_up(&why));
    let program = Program::parse(file).unwrap_or_else(|why| give_up(&format_args!("not a program: {why}")));
    let machine = windows::machine();
    let fits = machine.set_arguments(boot.arguments());
    fits.unwrap_or_else(|| give_up(&"its arguments are too long"));
    machine.program_offset.store(file.as_ptr() as u64 - archive().as_ptr() as u64, Relaxed);
    machine.program_bytes.store(file.len() as u64, Relaxed);
    start(file, &program).unwrap_or_else(|(what, error)| give_up(&format_args!("{what}: {error}")));
}

/// Makes the environment of the first program.
///
/// # Errors
/// The step that failed, most likely for lack of memory.
fn start(file: &[u8], program: &Program) -> Result<(), (&'static str, Error)> {
    let failed = |what| move |error| (what, error);
    let env = life::create(None, 0).map_err(failed("no environment"))?;
    windows::machine().first_env.store(env.id().0, Relaxed);
    for segment in program.segments() {
        load_segment(env, file, segment).map_err(failed("a segment cannot be loaded"))?;
    }
    let stack = Va(STACK_TOP.0 - PAGE_SIZE);
    with_page_map(env, |map| map.alloc(stack, Perms::WRITE)).map_err(failed("no stack"))?;
    let registers = Registers { rip: program.entry.0, rsp: STACK_TOP.0, ..Registers::default() };
    env.frame.set_registers(&registers).map_err(failed("its first registers"))?;
    scheduler::lock().wake(env);
    Ok(())
}

fn find(name: &str) -> Result<&'static [u8], &'static str> {
    let archive = TarArchiveRef::new(archive()).map_err(|_| "there is no boot archive")?;
    let is_it = |entry: &tar_no_std::ArchiveEntry| entry.filename().as_str() == Ok(name);
    archive.entries().find(is_it).map(|entry| entry.data()).ok_or("it is not in the boot archive")
}

/// Copies a segment into fresh frames.
fn load_segment(env: &'static Env, file: &[u8], segment: &Segment) -> Result<(), Error> {
    let data = &file[segment.offset as usize..][..segment.bytes as usize];
    let mut pieces = data.chunks(PAGE_SIZE as usize);
    let mut page = segment.start;
    while page < segment.end {
        let piece = pieces.next().unwrap_or_default();
        let frame = MEMORY.alloc()?;
        // SAFETY: the frame is fresh, and the piece is no longer than it.
        unsafe { bytes(frame).copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
        with_page_map(env, |map| map.accept(page, frame, segment.perms))?;
        page = page.add_pages(1);
    }
    Ok(())
}
