//! The kernel image. Its symbols locate a panic. And it has no instruction that touches the registers of the vector
//! unit or of the x87, except the two that save and load all of them: system calls and faults leave those registers
//! alone.

use abi::ExitStatus;
use anyhow::{Context, Result};
use iced_x86::{Code, Decoder, DecoderOptions, InstructionInfoFactory};
use libtest_mimic::{Failed, Trial};
use object::elf::{FileHeader64, SHF_EXECINSTR};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::path::Path;
use std::sync::Arc;
use tests::{Testbed, guest};
use xtask::{images::Flavor, simd, symbols};

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let of_panics = Arc::clone(testbed);
    let panics = Trial::test("a-panic-says-where", move || panic_says_where(&of_panics));
    Flavor::ALL
        .into_iter()
        .map(|flavor| {
            let testbed = Arc::clone(testbed);
            let name = format!("no-vector-instructions-{flavor:?}").to_lowercase();
            Trial::test(name, move || scan(testbed.kernel(flavor)))
        })
        .chain([panics])
        .collect()
}

/// A kernel that panics names the place, and powers off with its status; its backtrace has symbols.
fn panic_says_where(testbed: &Testbed) -> Result<(), Failed> {
    let run = guest("hello").panics("panic").boot(testbed, Flavor::Plain)?;
    run.in_order(&[r"^kernel panic: panicked at kern/src/boot/command_line\.rs:\d+", r"^  backtrace 0xffffffff8"]);
    let frames = symbols::symbolise(testbed.kernel(Flavor::Plain), &symbols::backtrace(&run.console))?;
    run.ends(ExitStatus::KERNEL_PANIC);
    run.expect(frames.contains("kern/src/main.rs:"), format!("no line of main.rs in:\n{frames}"));
    let unmet: Vec<String> = run.unmet().iter().map(ToString::to_string).collect();
    if unmet.is_empty() { Ok(()) } else { Err(unmet.join("\n").into()) }
}

fn scan(kernel: &Path) -> Result<(), Failed> {
    let found = offenders(kernel).map_err(|error| format!("{error:#}"))?;
    if found.is_empty() { Ok(()) } else { Err(found.join("\n").into()) }
}

/// The instructions of `FpState` besides those that save and load all registers. No compiler generates these for code
/// with soft floats.
const ON_PURPOSE: [Code; 3] = [Code::Fninit, Code::Fnstenv_m28byte, Code::Fild_m32int];

fn offenders(kernel: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let header = FileHeader64::<object::LittleEndian>::parse(bytes.as_slice())?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes.as_slice())?;
    let mut found = Vec::new();
    let mut seen = 0;
    for section in sections.iter() {
        let start = section.sh_addr(endian);
        // The code that runs before long mode is not 64-bit code; it lies at its physical address.
        if section.sh_flags(endian).0 & SHF_EXECINSTR.0 == 0 || start < abi::layout::KERNEL_HALF.0 {
            continue;
        }
        let mut info = InstructionInfoFactory::new();
        let code = section.data(endian, bytes.as_slice())?;
        for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE).iter() {
            seen += 1;
            if simd::touches(&instruction, &mut info) && !ON_PURPOSE.contains(&instruction.code()) {
                found.push(format!("{:#x}: {:?}", instruction.ip(), instruction.code()));
            }
        }
    }
    anyhow::ensure!(seen > 1000, "{seen} instructions in {}", kernel.display());
    Ok(found)
}
