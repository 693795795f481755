//! Children without libos: a page of machine code, and anything else that the parent maps.

use crate::kit::{Must, board};
use libos::{EnvId, PAGE_SIZE, Perms, Registers, Status, Va, raw, sys};

/// The address of the code in the child, and of its draft in the parent.
pub const CODE: Va = Va(0x1000_0000);
const DRAFT: Va = Va(0x2300_0000_0000);

/// Machine code under construction.
pub struct Code {
    bytes: [u8; Code::MOST],
    len: usize,
}

impl Code {
    const MOST: usize = 1024;

    pub fn new() -> Code {
        Code { bytes: [0; Code::MOST], len: 0 }
    }

    pub fn add(&mut self, bytes: &[u8]) -> &mut Code {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }

    /// `mov rax, word` and similar instructions: the two bytes before the word select the register.
    pub fn load(&mut self, register: [u8; 2], word: u64) -> &mut Code {
        self.add(&register).add(&word.to_le_bytes())
    }

    /// Adds 1 to a word of the board, which must be mapped; changes `rax`.
    pub fn count(&mut self, word: usize) -> &mut Code {
        self.load(RAX, at(word)).add(&[0xf0, 0x48, 0xff, 0x00]) // lock inc qword ptr [rax]
    }

    /// `jmp` to this offset in the code.
    pub fn jump(&mut self, target: usize) -> &mut Code {
        let distance = target as i32 - (self.len as i32 + 5);
        self.add(&[0xe9]).add(&distance.to_le_bytes())
    }

    /// A system call with up to two arguments.
    pub fn call(&mut self, number: libos::abi::Call, args: [u64; 2]) -> &mut Code {
        self.load(RDI, args[0]).load(RSI, args[1]).load(RAX, number as u64).add(&[0x0f, 0x05])
    }

    /// The offset of the next instruction.
    pub fn here(&self) -> usize {
        self.len
    }

    /// Puts the code on a page that can be mapped into children.
    pub fn publish(&self) -> Text {
        sys::alloc(EnvId::SELF, DRAFT, 1, Perms::WRITE).must("alloc");
        (0..self.len).for_each(|at| raw::write_u8(DRAFT.0 + at as u64, self.bytes[at]));
        sys::protect(EnvId::SELF, DRAFT, 1, Perms::EXEC).must("protect");
        Text
    }
}

pub const RAX: [u8; 2] = [0x48, 0xb8];
pub const RCX: [u8; 2] = [0x48, 0xb9];
pub const RSP: [u8; 2] = [0x48, 0xbc];
pub const RSI: [u8; 2] = [0x48, 0xbe];
pub const RDI: [u8; 2] = [0x48, 0xbf];

/// The address of a word of the board.
pub fn at(word: usize) -> u64 {
    &raw const board()[word] as u64
}

/// Published code; only one at a time.
pub struct Text;

impl Text {
    /// A stopped child that will start at the beginning of the code.
    pub fn child(&self) -> EnvId {
        let id = sys::exofork().must("exofork");
        sys::map(EnvId::SELF, DRAFT, id, CODE, 1, Perms::EXEC).must("map");
        let words = Va(at(0));
        let pages = (size_of_val(board()) as u64).div_ceil(PAGE_SIZE);
        sys::map(EnvId::SELF, words, id, words, pages, Perms::WRITE).must("map");
        self.go_to(id, 0);
        id
    }

    /// Continues a stopped child at an offset in the code.
    pub fn go_to(&self, id: EnvId, offset: usize) {
        let registers = Registers { rip: CODE.0 + offset as u64, ..Registers::default() };
        sys::set_regs(id, &registers).must("set_regs");
    }

    pub fn start(&self, id: EnvId) {
        sys::set_status(id, Status::Runnable).must("set_status");
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        sys::unmap(EnvId::SELF, DRAFT, 1).must("unmap");
    }
}
