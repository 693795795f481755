//! The costs of instructions that take much more than one cycle.
//!
//! A count of instructions treats a write to CR3 as if it were as cheap as an addition, so it would reward the wrong
//! trade-offs. Estimated cycles add a published cost for each expensive instruction. The costs are round figures, of
//! the size that Agner Fog's instruction tables and uops.info give for Intel and AMD cores of the last ten years; where
//! those disagree, something in between. `iretq` was also measured: about 100 cycles. Only the proportions matter.
//!
//! The emulator's log of executed blocks, with one instruction in each block, shows which of them are executed. Only
//! addresses where such an instruction may be are logged; they are found by their bytes. Bytes in the middle of another
//! instruction that merely look like one do no harm, because no block ever starts there.

use anyhow::{Context, Result};
use object::elf::{FileHeader64, SHF_EXECINSTR};
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// An expensive instruction: its first bytes, and its cost in cycles. In the bytes, `Some` is exactly this byte,
/// `None` any; prefixes come first.
pub struct Cost {
    /// Its mnemonic.
    pub name: &'static str,
    bytes: &'static [&'static [u8]],
    /// Cycles; every other instruction counts as one.
    pub cycles: u64,
}

/// The costs of instructions that their first bytes tell.
pub const COSTS: &[Cost] = &[
    Cost { name: "syscall", bytes: &[&[0x0f, 0x05]], cycles: 50 },
    Cost { name: "sysretq", bytes: &[&[0x48, 0x0f, 0x07]], cycles: 50 },
    Cost { name: "iretq", bytes: &[&[0x48, 0xcf]], cycles: 100 },
    Cost { name: "swapgs", bytes: &[&[0x0f, 0x01, 0xf8]], cycles: 20 },
    Cost { name: "stac, clac", bytes: &[&[0x0f, 0x01, 0xcb], &[0x0f, 0x01, 0xca]], cycles: 10 },
    Cost { name: "mov cr3", bytes: &[&[0x0f, 0x22, 0xd8], &[0x0f, 0x22, 0xd9], &[0x0f, 0x22, 0xda]], cycles: 200 },
    Cost { name: "mov cr3", bytes: &[&[0x0f, 0x22, 0xdb], &[0x0f, 0x22, 0xde], &[0x0f, 0x22, 0xdf]], cycles: 200 },
    Cost { name: "wrmsr", bytes: &[&[0x0f, 0x30]], cycles: 100 },
    Cost { name: "mfence", bytes: &[&[0x0f, 0xae, 0xf0]], cycles: 35 },
];

/// The cost of `invlpg`: 0F 01 /7 with a memory operand.
pub const INVLPG: u64 = 120;
/// `fxsave64`, `fxrstor64`: REX.W 0F AE /0 and /1 with a memory operand.
pub const FXSAVE: u64 = 60;
/// An instruction with a lock prefix, or an exchange with memory, which is locked without one.
pub const LOCKED: u64 = 18;
/// The start of a repeated string instruction; its iterations are counted as instructions.
pub const REP: u64 = 30;
/// The delivery of an exception or an interrupt: reaching the first instruction of its stub.
pub const DELIVERY: u64 = 250;

/// Bytes of the stub of a vector.
const STUB: u64 = 16;

/// The addresses of expensive instructions.
pub struct Sites {
    costs: HashMap<u64, Site>,
    /// The stubs of the vectors, one after the other.
    stubs: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Site {
    /// Reads the time stamp counter, in the program: a sample begins or ends.
    Rdtsc,
    /// Costs this many cycles instead of one.
    Expensive(u64),
    /// Like [`Site::Expensive`], but consecutive iterations count once.
    Repeated(u64),
}

impl Sites {
    /// Searches the code of the kernel and of the program.
    ///
    /// # Errors
    /// A file has another form than expected.
    pub fn find(kernel: &Path, program: &Path) -> Result<Sites> {
        let mut costs = HashMap::new();
        let mut stubs = 0;
        for (path, is_program) in [(kernel, false), (program, true)] {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let code = Code::parse(&bytes).with_context(|| format!("{}", path.display()))?;
            for (start, text) in &code.sections {
                let sites = (0..text.len()).filter_map(|at| Some((start + at as u64, site(&text[at..], is_program)?)));
                costs.extend(sites);
            }
            if !is_program {
                stubs = code.symbol("trap_stubs").context("the kernel has no symbol trap_stubs")?;
            }
        }
        Ok(Sites { costs, stubs })
    }

    /// Arguments that make the emulator log the execution of these addresses.
    #[must_use]
    pub fn emulator_arguments(&self) -> Vec<String> {
        let sites = self.costs.keys().map(|site| format!("{site:#x}+1"));
        let stubs = format!("{:#x}+{:#x}", self.stubs, STUB * 256);
        let filter: Vec<String> = sites.chain([stubs]).collect();
        ["-singlestep", "-d", "exec,nochain", "-dfilter"]
            .into_iter()
            .map(ToOwned::to_owned)
            .chain([filter.join(",")])
            .collect()
    }

    /// Reads the log: the surcharges between the first and the second reading of the counter, between the third and
    /// the fourth, and so on.
    #[must_use]
    pub fn follow(&self, log: impl Read) -> Vec<u64> {
        let mut pairs = Vec::new();
        let mut open = None;
        let mut previous = 0;
        let mut line = Vec::new();
        let mut log = BufReader::with_capacity(1 << 20, log);
        while log.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if let Some(at) = executed(&line) {
                self.account(at, previous, &mut open, &mut pairs);
                previous = at;
            }
            line.clear();
        }
        pairs
    }

    fn site(&self, at: u64) -> Option<Site> {
        let in_stubs = at.wrapping_sub(self.stubs);
        let is_delivery = in_stubs < STUB * 256 && in_stubs.is_multiple_of(STUB);
        if is_delivery { Some(Site::Expensive(DELIVERY)) } else { self.costs.get(&at).copied() }
    }

    fn account(&self, at: u64, previous: u64, open: &mut Option<u64>, pairs: &mut Vec<u64>) {
        match self.site(at) {
            Some(Site::Rdtsc) => match open.take() {
                Some(sum) => pairs.push(sum),
                None => *open = Some(0),
            },
            Some(Site::Repeated(_)) if at == previous => {}
            Some(Site::Expensive(cost) | Site::Repeated(cost)) => {
                if let Some(sum) = open {
                    *sum += cost - 1;
                }
            }
            None => {}
        }
    }
}

/// The address in a log line `Trace 0: 0x7f... [cs base/pc/flags/flags] symbol`.
fn executed(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let inside = line.strip_prefix("Trace ")?.split_once('[')?.1;
    u64::from_str_radix(inside.split('/').nth(1)?, 16).ok()
}

/// The expensive instruction at the start of these bytes, if there is one.
fn site(code: &[u8], is_program: bool) -> Option<Site> {
    if is_program && code.starts_with(&[0x0f, 0x31]) {
        return Some(Site::Rdtsc);
    }
    let listed = COSTS.iter().find(|cost| cost.bytes.iter().any(|bytes| code.starts_with(bytes)));
    if let Some(cost) = listed {
        return Some(Site::Expensive(cost.cycles));
    }
    let is_rex = |byte: u8| byte & 0xf0 == 0x40;
    let after_rex = if code.first().copied().is_some_and(is_rex) { &code[1..] } else { code };
    match *after_rex {
        [0x0f, 0x01, modrm, ..] if is_memory(modrm) && modrm >> 3 & 7 == 7 => Some(Site::Expensive(INVLPG)),
        [0x0f, 0xae, modrm, ..] if is_memory(modrm) && modrm >> 3 & 7 < 2 => Some(Site::Expensive(FXSAVE)),
        [0x86 | 0x87, modrm, ..] if is_memory(modrm) => Some(Site::Expensive(LOCKED)),
        [0xf0, rex, ref rest @ ..] if is_rex(rex) && is_lockable(rest) => Some(Site::Expensive(LOCKED)),
        [0xf0, ref rest @ ..] if is_lockable(rest) => Some(Site::Expensive(LOCKED)),
        [0xf2 | 0xf3, 0xa4..=0xa7 | 0xaa..=0xaf, ..] => Some(Site::Repeated(REP)),
        [0xf2 | 0xf3, rex, 0xa4..=0xa7 | 0xaa..=0xaf, ..] if is_rex(rex) => Some(Site::Repeated(REP)),
        _ => None,
    }
}

fn is_memory(modrm: u8) -> bool {
    modrm >> 6 != 3
}

/// Whether this instruction may follow a lock prefix: arithmetic, exchanges or bit operations on memory.
fn is_lockable(code: &[u8]) -> bool {
    match *code {
        [0x0f, 0xab | 0xb0 | 0xb1 | 0xb3 | 0xba | 0xbb | 0xc0 | 0xc1 | 0xc7, modrm, ..]
        | [0x80..=0x83 | 0xf6 | 0xf7 | 0xfe | 0xff, modrm, ..] => is_memory(modrm),
        [opcode @ 0..0x38, modrm, ..] => opcode & 7 < 2 && is_memory(modrm),
        _ => false,
    }
}

/// The executable sections of an ELF file, and its symbols.
struct Code<'a> {
    sections: Vec<(u64, &'a [u8])>,
    symbols: HashMap<&'a [u8], u64>,
}

impl<'a> Code<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Code<'a>> {
        let header = FileHeader64::<object::LittleEndian>::parse(bytes)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, bytes)?;
        let table = sections.symbols(endian, bytes, object::elf::SHT_SYMTAB)?;
        let mut symbols = HashMap::new();
        for symbol in table.iter() {
            symbols.insert(symbol.name(endian, table.strings())?, symbol.st_value(endian));
        }
        let mut code = Vec::new();
        for section in sections.iter() {
            if section.sh_flags(endian).0 & SHF_EXECINSTR.0 != 0 {
                code.push((section.sh_addr(endian), section.data(endian, bytes)?));
            }
        }
        Ok(Code { sections: code, symbols })
    }

    fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name.as_bytes()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expensive_instructions_are_recognised() {
        let found = |code: &[u8]| site(code, false);
        assert_eq!(found(&[0x0f, 0x05]), Some(Site::Expensive(50)));
        assert_eq!(found(&[0x0f, 0x01, 0x3f]), Some(Site::Expensive(INVLPG))); // invlpg [rdi]
        assert_eq!(found(&[0x0f, 0x01, 0xf8]), Some(Site::Expensive(20))); // swapgs
        assert_eq!(found(&[0x48, 0x0f, 0xae, 0x07]), Some(Site::Expensive(FXSAVE))); // fxsave64 [rdi]
        assert_eq!(found(&[0xf0, 0x48, 0x0f, 0xb1, 0x0f]), Some(Site::Expensive(LOCKED))); // lock cmpxchg
        assert_eq!(found(&[0xf3, 0x48, 0xab]), Some(Site::Repeated(REP))); // rep stosq
        assert_eq!(found(&[0x48, 0x87, 0x07]), Some(Site::Expensive(LOCKED))); // xchg [rdi], rax
        assert_eq!(found(&[0x48, 0x89, 0x07]), None);
        assert_eq!(site(&[0x0f, 0x31], true), Some(Site::Rdtsc));
    }

    #[test]
    fn surcharges_lie_between_readings() {
        let costs = [(1, Site::Rdtsc), (2, Site::Expensive(50)), (3, Site::Repeated(30))].into();
        let line = |pc: u64| format!("Trace 0: 0x7f0 [00000000/{pc:016x}/0040c0b3/ff021201] name\n");
        let log: String = [2, 1, 2, 2, 1, 2, 1, 3, 3, 3, 2, 3, 1, 1].into_iter().map(line).collect();
        let pairs = Sites { costs, stubs: 1 << 32 }.follow(log.as_bytes());
        assert_eq!(pairs, [98, 29 + 49 + 29]);
    }
}
