//! Finds vector instructions in code that must leave the vector registers alone, because they still hold the values of
//! an interrupted program: the kernel, and the functions of programs that see a fault first.

use crate::symbols::{self, Function};
use anyhow::{Context, Result, bail};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, Register};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{LittleEndian, elf::FileHeader64};

/// The prefix of fast handlers. libos has one, and `fast_handler!` makes others.
const PREFIX: &str = "libos_fast_";
/// Prefixes of functions that never return to the interrupted program, so that they may do anything.
const ENDS: [&str; 2] = ["core::panicking::", "libos::console::unfinished"];

/// The remedy for a fast handler that touches vector registers: copies become vector moves, or calls of `memcpy`.
const REMEDY: &str = "copying a structure often does that: copy its fields one by one, or use `upcall::set_handler`";

/// Whether an instruction touches a register of the vector unit or of the x87. Instructions that save and load all of
/// them do not count.
pub fn touches(instruction: &Instruction, info: &mut InstructionInfoFactory) -> bool {
    if matches!(instruction.code(), Code::Fxsave64_m512byte | Code::Fxrstor64_m512byte) {
        return false;
    }
    let vector =
        |register: Register| register.is_vector_register() || register.is_st() || register.is_mm() || register.is_k();
    let used = info.info(instruction).used_registers().iter().any(|used| vector(used.register()));
    let x87 = instruction.fpu_stack_increment_info().writes_top();
    let state = format!("{:?}", instruction.mnemonic()).to_lowercase();
    let state = ["ldmxcsr", "stmxcsr", "fxsave", "fxrstor", "fninit", "fnclex", "xsave", "xrstor", "fldcw"]
        .iter()
        .any(|name| state.starts_with(name) || state.starts_with(&format!("v{name}")));
    used || x87 || state
}

/// Checks the fast handlers of a program. They may call one another, and the kernel, and they may end the program.
///
/// # Errors
/// One of them touches a vector register, or calls a function that might; or there is none.
pub fn check_program(program: &[u8]) -> Result<()> {
    let functions = symbols::functions(program)?;
    let fast: Vec<&Function> = functions.iter().filter(|function| function.name.starts_with(PREFIX)).collect();
    if fast.is_empty() {
        bail!("no function `{PREFIX}...`: is this a program of libos?");
    }
    let ends = functions.iter().filter(|function| ENDS.iter().any(|start| function.name.starts_with(start)));
    let callable: Vec<u64> = fast.iter().copied().chain(ends).map(|function| function.address).collect();
    for function in &fast {
        let code = code_of(program, function)?;
        if let Some((instruction, why)) = offender(function, code, &callable, &functions) {
            let name = function.name.strip_prefix(PREFIX).unwrap_or_default();
            bail!("the fast handler `{name}` {why}, at {:#x}: {:?}\n  {REMEDY}", instruction.ip(), instruction.code());
        }
    }
    Ok(())
}

fn offender(function: &Function, code: &[u8], callable: &[u64], all: &[Function]) -> Option<(Instruction, String)> {
    let own = function.address..function.address + function.bytes;
    let may_go_to = |address| own.contains(&address) || callable.contains(&address);
    let mut info = InstructionInfoFactory::new();
    Decoder::with_ip(64, code, function.address, DecoderOptions::NONE).iter().find_map(|instruction| {
        let leaves = match instruction.flow_control() {
            FlowControl::Next | FlowControl::Return => false,
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                !may_go_to(instruction.near_branch_target())
            }
            FlowControl::Call => {
                instruction.mnemonic() != Mnemonic::Syscall && !may_go_to(instruction.near_branch_target())
            }
            FlowControl::Exception => false, // `ud2`, where nothing comes back to
            _ => true,
        };
        if touches(&instruction, &mut info) {
            Some((instruction, "uses a vector register".to_owned()))
        } else if leaves {
            let target = instruction.near_branch_target();
            let callee = all.iter().find(|callee| callee.address == target);
            let callee = callee.map_or("a function".to_owned(), |callee| format!("`{}`", callee.name));
            Some((instruction, format!("calls {callee}, which may use vector registers")))
        } else {
            None
        }
    })
}

fn code_of<'a>(program: &'a [u8], function: &Function) -> Result<&'a [u8]> {
    let header = FileHeader64::<LittleEndian>::parse(program)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, program)?;
    let within = |start: u64, bytes: u64| function.address.checked_sub(start).filter(|at| *at < bytes);
    let (section, at) = sections
        .iter()
        .find_map(|section| Some((section, within(section.sh_addr(endian), section.sh_size(endian))?)))
        .with_context(|| format!("`{}` is in no section", function.name))?;
    let code = section.data(endian, program)?.get(at as usize..);
    code.and_then(|code| code.get(..function.bytes as usize)).with_context(|| format!("`{}` is cut off", function.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &[u8]) -> Option<String> {
        let function = Function { name: format!("{PREFIX}x"), address: 0x1000, bytes: code.len() as u64 };
        let callee = Function { name: "memcpy".to_owned(), address: 0x3000, bytes: 1 };
        offender(&function, code, &[0x1000, 0x2000], &[callee]).map(|(_, why)| why)
    }

    #[test]
    fn what_a_quick_handler_may_do() {
        assert_eq!(found(&[0x89, 0xf8, 0x0f, 0x05, 0xc3]), None); // mov eax, edi; syscall; ret
        assert_eq!(found(&[0xe9, 0xfb, 0x0f, 0, 0]), None); // jmp 0x2000
        assert_eq!(found(&[0x74, 0xfe]), None); // je itself
    }

    #[test]
    fn and_what_not() {
        let uses = |code| found(code).is_some_and(|why| why.starts_with("uses"));
        let calls = |code| found(code).is_some_and(|why| why.starts_with("calls"));
        assert!(uses(&[0x0f, 0x57, 0xc0])); // xorps xmm0, xmm0
        assert!(uses(&[0xd9, 0xe8])); // fld1
        assert!(uses(&[0x0f, 0xae, 0x17])); // ldmxcsr [rdi]
        assert!(found(&[0xe8, 0xfb, 0x1f, 0, 0]).unwrap().starts_with("calls `memcpy`")); // call 0x3000
        assert!(calls(&[0xff, 0xd0])); // call rax
        assert!(calls(&[0xff, 0xe0])); // jmp rax
    }
}
