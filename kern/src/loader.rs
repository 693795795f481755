//! The first environment: the only program that the kernel loads itself.

use crate::boot::BootInfo;
use crate::env::Env;
use crate::memory::{Kernel, MEMORY, Space, archive, bytes};
use crate::syscall::with_space;
use crate::{life, power, sched};
use abi::layout::STACK_TOP;
use abi::window::MachineInfo;
use abi::{Error, Frame, PAGE_SIZE, Perms, Registers, Va};
use core::sync::atomic::Ordering::Relaxed;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::{ElfBytes, endian::LittleEndian, segment::ProgramHeader};
use tar_no_std::TarArchiveRef;
use vm::Machine;

/// Load the program that the command line names, and make it runnable.
pub fn boot(boot: &BootInfo) {
    let (words, arguments) = boot.command_line();
    let name = crate::word(words, "init=").unwrap_or("init");
    if let Err(why) = start(name, arguments) {
        crate::console::kprintln!("cannot start the first program, {name:?}: {why}");
        power::off(abi::ExitStatus::TOOL_FAILED);
    }
}

fn start(name: &str, arguments: &str) -> Result<(), &'static str> {
    let file = find(name)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| "it is not an ELF file")?;
    publish_arguments(arguments)?;
    let env = life::create(None).map_err(|_| "there is no memory for it")?;
    let machine = Kernel::machine();
    machine.first_env.store(env.id().0, Relaxed);
    machine.program_offset.store(file.as_ptr() as u64 - archive().as_ptr() as u64, Relaxed);
    machine.program_bytes.store(file.len() as u64, Relaxed);
    let segments = elf.segments().ok_or("it has no segments")?;
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        load(env, file, &segment).map_err(|_| "a segment cannot be loaded")?;
    }
    let stack = Va(STACK_TOP.0 - PAGE_SIZE);
    with_space(env, |space| space.alloc(&MEMORY, stack, Perms::WRITE)).map_err(|_| "no stack")?;
    let registers = Registers { rip: elf.ehdr.e_entry, rsp: STACK_TOP.0, ..Registers::default() };
    env.frame.set_registers(&registers).map_err(|_| "its entry is not in user space")?;
    sched::lock().wake(env);
    Ok(())
}

fn find(name: &str) -> Result<&'static [u8], &'static str> {
    let archive = TarArchiveRef::new(archive()).map_err(|_| "there is no boot archive")?;
    let is_it = |entry: &tar_no_std::ArchiveEntry| entry.filename().as_str() == Ok(name);
    archive.entries().find(is_it).map(|entry| entry.data()).ok_or("it is not in the boot archive")
}

/// Let the program find its arguments in the machine page.
fn publish_arguments(arguments: &str) -> Result<(), &'static str> {
    let machine = Kernel::machine();
    if arguments.len() > MachineInfo::MAX_ARGS {
        return Err("its arguments are too long");
    }
    for (to, from) in machine.args.iter().zip(arguments.bytes()) {
        to.store(from, Relaxed);
    }
    machine.args_len.store(arguments.len() as u32, Relaxed);
    Ok(())
}

/// Copy a segment into fresh frames.
fn load(env: &'static Env, file: &[u8], segment: &ProgramHeader) -> Result<(), Error> {
    let mut perms = Perms::READ;
    perms.set(Perms::WRITE, segment.p_flags & PF_W != 0);
    perms.set(Perms::EXEC, segment.p_flags & PF_X != 0);
    let perms = Perms::checked(perms.bits())?;
    let end = Va(segment.p_vaddr + segment.p_memsz);
    let mut page = Va(segment.p_vaddr).page();
    while page < end {
        crate::pages::user_va(page, 1)?;
        let frame = MEMORY.alloc()?;
        fill(frame, page, file, segment)?;
        with_space(env, |space: &mut Space| space.accept(&MEMORY, page, frame, perms))?;
        page = page.add_pages(1);
    }
    Ok(())
}

/// Copy what the file has of this page.
fn fill(frame: Frame, page: Va, file: &[u8], segment: &ProgramHeader) -> Result<(), Error> {
    let from = page.0.max(segment.p_vaddr);
    let to = page.add_pages(1).0.min(segment.p_vaddr + segment.p_filesz);
    let start = (segment.p_offset + from - segment.p_vaddr) as usize;
    let len = to.saturating_sub(from) as usize;
    let data = file.get(start..start + len).unwrap_or_default();
    // SAFETY: the frame is fresh, and the piece lies within it.
    unsafe { bytes(frame).add((from - page.0) as usize).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
    if data.len() == len { Ok(()) } else { Err(Error::Fault(page.0)) }
}
