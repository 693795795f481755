//! The kernel image. Its symbols tell where a panic was. And it has no instruction that touches the
//! registers of the vector unit or of the x87, save for the two that save and load all of them: system
//! calls and faults leave those registers alone. So does the part of libos that resolves the frequent faults.

use abi::ExitStatus;
use anyhow::{Context, Result};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, Register,
};
use libtest_mimic::{Failed, Trial};
use object::elf::{FileHeader64, SHF_EXECINSTR};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::path::Path;
use std::sync::Arc;
use tests::{Lab, guest};
use xtask::images::Flavor;
use xtask::symbols;

pub fn trials(lab: &Arc<Lab>) -> Vec<Trial> {
    let of_panics = Arc::clone(lab);
    let panics = Trial::test("a-panic-says-where", move || panic_says_where(&of_panics));
    let of_programs = Arc::clone(lab);
    let quick = Trial::test("no-vector-instructions-quick-faults", move || scan_quick_faults(&of_programs));
    Flavor::ALL
        .into_iter()
        .map(|flavor| {
            let lab = Arc::clone(lab);
            let name = format!("no-vector-instructions-{flavor:?}").to_lowercase();
            Trial::test(name, move || scan(lab.kernel(flavor)))
        })
        .chain([panics, quick])
        .collect()
}

/// A kernel that panics names the place, powers off with its status, and its backtrace has symbols.
fn panic_says_where(lab: &Lab) -> Result<(), Failed> {
    let run = guest("hello").panics("panic").boot(lab, Flavor::Plain)?;
    run.in_order(&[r"^kernel panic: panicked at kern/src/main\.rs:\d+", r"^  backtrace 0xffffffff8"]);
    let frames = symbols::symbolise(lab.kernel(Flavor::Plain), &symbols::backtrace(&run.console))?;
    run.expect(run.status == ExitStatus::KERNEL_PANIC, format!("kernel panic expected, {}", run.status));
    run.expect(frames.contains("kern/src/main.rs:"), format!("no line of main.rs in:\n{frames}"));
    let failures = run.failures();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

fn scan(kernel: &Path) -> Result<(), Failed> {
    let found = offenders(kernel).map_err(|error| format!("{error:#}"))?;
    if found.is_empty() { Ok(()) } else { Err(found.join("\n").into()) }
}

fn offenders(kernel: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let header = FileHeader64::<object::LittleEndian>::parse(bytes.as_slice())?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes.as_slice())?;
    let mut found = Vec::new();
    let mut seen = 0;
    for section in sections.iter() {
        let start = section.sh_addr(endian);
        // What runs before long mode is not 64-bit code; it lies at its physical address.
        if section.sh_flags(endian).0 & SHF_EXECINSTR.0 == 0 || start < abi::layout::KERNEL_HALF.0 {
            continue;
        }
        let mut info = InstructionInfoFactory::new();
        let code = section.data(endian, bytes.as_slice())?;
        for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE).iter() {
            seen += 1;
            if touches_vector_unit(&instruction, &mut info) {
                found.push(format!("{:#x}: {:?}", instruction.ip(), instruction.code()));
            }
        }
    }
    anyhow::ensure!(seen > 1000, "{seen} instructions in {}", kernel.display());
    Ok(found)
}

/// In every program: the function that resolves frequent faults while the vector registers are the interrupted
/// program's. It calls nobody, because what it called could touch them.
fn scan_quick_faults(lab: &Lab) -> Result<(), Failed> {
    for program in &lab.counting_images().programs {
        let found = quick_fault_offenders(&lab.program(&program.name)?);
        let found = found.map_err(|error| format!("{}: {error:#}", program.name))?;
        if !found.is_empty() {
            return Err(format!("{}:\n{}", program.name, found.join("\n")).into());
        }
    }
    Ok(())
}

fn quick_fault_offenders(program: &[u8]) -> Result<Vec<String>> {
    let functions = symbols::functions(program)?;
    let quick = functions.iter().find(|function| function.name == "libos_quick_fault");
    let quick = quick.context("there is no libos_quick_fault")?;
    let header = FileHeader64::<object::LittleEndian>::parse(program)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, program)?;
    let within = |start: u64, bytes: u64| quick.address.checked_sub(start).filter(|at| *at < bytes);
    let (section, at) = sections
        .iter()
        .find_map(|section| Some((section, within(section.sh_addr(endian), section.sh_size(endian))?)))
        .context("it is in no section")?;
    let code =
        section.data(endian, program)?.get(at as usize..).and_then(|code| code.get(..quick.bytes as usize));
    let mut decoder =
        Decoder::with_ip(64, code.context("it is cut off")?, quick.address, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let own = quick.address..quick.address + quick.bytes;
    let leaves = |instruction: &Instruction| match instruction.flow_control() {
        FlowControl::Next | FlowControl::Return => false,
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
            !own.contains(&instruction.near_branch_target())
        }
        _ => instruction.mnemonic() != Mnemonic::Syscall,
    };
    let mut found = Vec::new();
    for instruction in decoder.iter() {
        if touches_vector_unit(&instruction, &mut info) || leaves(&instruction) {
            found.push(format!("{:#x}: {:?}", instruction.ip(), instruction.code()));
        }
    }
    Ok(found)
}

fn touches_vector_unit(instruction: &Instruction, info: &mut InstructionInfoFactory) -> bool {
    if matches!(instruction.code(), Code::Fxsave64_m512byte | Code::Fxrstor64_m512byte) {
        return false;
    }
    let vector = |register: Register| {
        register.is_vector_register() || register.is_st() || register.is_mm() || register.is_k()
    };
    let used = info.info(instruction).used_registers().iter().any(|used| vector(used.register()));
    let x87 = instruction.fpu_stack_increment_info().writes_top();
    let state = format!("{:?}", instruction.mnemonic()).to_lowercase();
    let state = ["ldmxcsr", "stmxcsr", "fxsave", "fxrstor", "fninit", "fnclex", "xsave", "xrstor", "fldcw"]
        .iter()
        .any(|name| state.starts_with(name) || state.starts_with(&format!("v{name}")));
    used || x87 || state
}
