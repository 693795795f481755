//! A program's beginning and end: `_start`, arguments, `main`, the panic message.
//!
//! The kernel starts the first program with zeroed `rdi`; [`spawn`](crate::spawn) starts the others with `rdi`
//! pointing at their arguments. A program makes everything else that it needs (an exception stack and an upcall)
//! itself, in this module.

use crate::layout::{EXCEPTION_STACK_TOP, HEAP, STACK_TOP};
use crate::regions::{self, Region};
use crate::resident::Local;
use crate::{Error, Perms, Va, archive, backtrace, env, heap, println, resident, stack, symbols, upcall, windows};
use abi::{ExitStatus, boot::ARG_SEPARATOR};
use core::arch::naked_asm;
use core::fmt::Display;
use executable::{Program, Segment};
use pager::{File, Guard};

/// Names the program's `main`.
///
/// `main` may take [`Args`] or nothing, and return nothing, an [`ExitCode`], or a `Result` of those
/// with an error that can be printed.
///
/// On the host the program can be checked and linked, but not run: there is no kernel for it.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn libos_main(args: $crate::Args) -> $crate::ExitCode {
            $crate::start::run($main, args)
        }

        $crate::host_entry!();
    };
}

/// The `main` of a program on the host; nothing elsewhere.
#[doc(hidden)]
#[cfg(bare_metal)]
#[macro_export]
macro_rules! host_entry {
    () => {};
}

/// The `main` of a program on the host.
#[doc(hidden)]
#[cfg(not(bare_metal))]
#[macro_export]
macro_rules! host_entry {
    () => {
        const _: () = {
            // A program has no tests of its own: tests are in libraries.
            #[unsafe(export_name = "main")]
            extern "C" fn on_the_host() -> i32 {
                if cfg!(test) { 0 } else { $crate::start::on_the_host() }
            }
        };
    };
}

/// Prints that this program does not run on the host; returns its exit code.
#[cfg(not(bare_metal))]
pub fn on_the_host() -> i32 {
    std::eprintln!("this is a program for Faultline: `cargo xtask run` in a checkout boots it");
    1
}

/// The exit code of a program: 0 to 63.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExitCode(u8);

impl ExitCode {
    /// The code for success.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// The code for a failure.
    pub const FAILURE: ExitCode = ExitCode(1);
}

/// Values above 63 become 63.
impl From<u8> for ExitCode {
    fn from(code: u8) -> ExitCode {
        ExitCode(code.min(ExitStatus::PROGRAM_MAX))
    }
}

/// The types that `main` may return.
pub trait Termination {
    /// The exit code for this value.
    fn report(self) -> ExitCode;
}

impl Termination for () {
    fn report(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl Termination for ExitCode {
    fn report(self) -> ExitCode {
        self
    }
}

impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn report(self) -> ExitCode {
        match self {
            Ok(value) => value.report(),
            Err(error) => {
                println!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// The functions that can be a `main`. `Kind` only distinguishes those with arguments from those without.
pub trait Main<Kind> {
    /// Calls `main`.
    fn call(self, args: Args) -> ExitCode;
}

impl<F: FnOnce() -> R, R: Termination> Main<fn() -> R> for F {
    fn call(self, _: Args) -> ExitCode {
        self().report()
    }
}

impl<F: FnOnce(Args) -> R, R: Termination> Main<fn(Args) -> R> for F {
    fn call(self, args: Args) -> ExitCode {
        self(args).report()
    }
}

/// Runs `main`; [`entry!`](crate::entry) expands to a call of this function.
pub fn run<Kind>(main: impl Main<Kind>, args: Args) -> ExitCode {
    main.call(args)
}

/// The arguments, one by one, without the program's own name.
#[derive(Clone, Debug)]
pub struct Args(&'static str);

impl Iterator for Args {
    type Item = &'static str;

    /// Returns the next argument; every argument follows a separator.
    fn next(&mut self) -> Option<&'static str> {
        let rest = self.0.strip_prefix(ARG_SEPARATOR)?;
        let (arg, rest) = rest.split_at(rest.find(ARG_SEPARATOR).unwrap_or(rest.len()));
        self.0 = rest;
        Some(arg)
    }
}

/// The block at the address that a spawned program gets in `rdi`. Behind it lie `len` bytes of arguments, each behind
/// a separator.
#[repr(C)]
pub(crate) struct ArgBlock {
    pub(crate) len: u64,
    /// The address of the program's own file.
    pub(crate) file: u64,
    pub(crate) file_bytes: u64,
}

unsafe extern "Rust" {
    safe fn libos_main(args: Args) -> ExitCode;
}

/// The entry point of every program. (On the host this symbol belongs to the C library.)
#[cfg_attr(bare_metal, unsafe(no_mangle))]
#[cfg_attr(not(bare_metal), allow(dead_code))]
#[unsafe(naked)]
extern "C" fn _start() -> ! {
    naked_asm!(
        // rsp is a multiple of 16. No frame is above this one: rbp = 0 ends a backtrace.
        "xor ebp, ebp",
        // A spawned program begins with its parent's floating-point state: reset it.
        "fninit",
        "push 0x1f80",
        "ldmxcsr [rsp]",
        "pop rax",
        "call {start}",
        "ud2",
        start = sym start,
    )
}

extern "C" fn start(block: *const ArgBlock) -> ! {
    // Until the regions exist, only resident memory may be touched.
    upcall::init().expect("an exception stack and an upcall");
    let (args, file) = if block.is_null() {
        (windows::boot_args(), windows::boot_program())
    } else {
        // SAFETY: the parent wrote the block, its length and `len` bytes of arguments on stack pages of this
        // environment, which stay mapped; and the file is in the boot archive.
        unsafe {
            let ArgBlock { len, file, file_bytes } = *block;
            let file = core::slice::from_raw_parts(file as *const u8, file_bytes as usize);
            (core::slice::from_raw_parts(block.add(1).cast(), len as usize), file)
        }
    };
    let file = archive::File { data: file };
    symbols::set_own_file(Some(file));
    if let Err(error) = add_first_regions(file) {
        println!("[{}] cannot begin: {error}", env::id());
        env::exit(ExitStatus::PANIC.0)
    }
    let args = Args(core::str::from_utf8(args).unwrap_or(""));
    env::exit(libos_main(args).0)
}

/// Adds the regions that every program begins with. (The stack has one already.) `file` is the program's own.
fn add_first_regions(file: archive::File) -> Result<(), Error> {
    static EXCEPTION_GUARD: Guard = Guard("exception stack guard");
    static ABOVE: Guard = Guard("exception stack");
    let program = Program::parse(file.data).map_err(Error::BadElf)?;
    program.segments().iter().try_for_each(|segment| regions::add(of_segment(segment, file)))?;
    regions::add(Region::new(HEAP..HEAP.add_pages(1), Perms::WRITE, &heap::PAGER))?;
    regions::add(Region::new(STACK_TOP..resident::STACK_LOW, Perms::READ, &EXCEPTION_GUARD))?;
    regions::add(Region::new(resident::STACK_LOW..EXCEPTION_STACK_TOP, Perms::WRITE, &ABOVE))?;
    stack::init()
}

/// The region of a segment: pages of the program's file.
fn of_segment(segment: &Segment, file: archive::File) -> Region {
    static CODE: File = File { name: "code" };
    static CONSTANTS: File = File { name: "constants" };
    static DATA: File = File { name: "data" };
    let pager = match segment.perms {
        Perms::EXEC => &CODE,
        Perms::WRITE => &DATA,
        _ => &CONSTANTS,
    };
    let source = Va(file.address().0 + segment.offset);
    pager.region(segment.range(), segment.perms, source, segment.bytes)
}

/// Checks that an argument can be passed on behind a separator.
///
/// # Errors
/// `BadArgument` if the argument itself contains a separator.
pub(crate) fn check_arg(arg: &str) -> Result<(), Error> {
    if arg.contains(ARG_SEPARATOR) { Err(Error::BadArgument) } else { Ok(()) }
}

/// Whether a panic is being reported.
#[unsafe(link_section = ".resident")]
static PANICKING: Local<bool> = Local::new(false);

#[cfg_attr(bare_metal, panic_handler)]
#[cfg_attr(not(bare_metal), allow(dead_code))]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let id = env::id();
    if PANICKING.get() {
        // Printing the message panics itself: for example, a value panics when it is formatted.
        println!("[{id}] panicked while it told of a panic");
        env::exit(ExitStatus::PANIC.0)
    }
    PANICKING.set(true);
    match info.location() {
        Some(at) => println!("[{id}] panicked at {at}: {}", info.message()),
        None => println!("[{id}] panicked: {}", info.message()),
    }
    backtrace::print_panic();
    env::exit(ExitStatus::PANIC.0)
}
