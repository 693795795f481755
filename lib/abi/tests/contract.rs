//! The numbers of the contract: no number twice, and no value lost on the way through registers.

use abi::boot::{exit_code, status_of_exit};
use abi::console::{Decoder, ESCAPE, Input, Key};
use abi::env::{FIXED_RFLAGS, USER_RFLAGS};
use abi::layout::{ARCHIVE, ARCHIVE_END, SCRATCH, SLOT_SIZE, USER_LIMIT, UVPT, uvpt};
use abi::page::span;
use abi::{
    Arguments, Awaited, Call, EnvId, Error, ExitStatus, Frame, Level, PAGE_SIZE, PageOp, Perms, Pte, Status, Va,
    Vector, args,
};
use std::collections::BTreeSet;

const VALUES: [u64; 4] = [0, 1, 0xdead_beef, u64::MAX];

#[test]
fn every_error_survives_the_registers() {
    for value in VALUES {
        for error in Error::all(value) {
            let (rax, rdx) = error.encode();
            assert!(rax >> 63 == 1, "{error:?} looks like a success");
            assert_eq!(Error::decode(rax, rdx), Err(error));
        }
    }
}

#[test]
fn errors_have_codes_and_texts_of_their_own() {
    let all = Error::all(0);
    let codes: Vec<_> = all.iter().map(|error| error.encode().0 & !(1 << 63)).collect();
    assert!(codes.iter().copied().eq(1..=all.len() as u64), "codes {codes:?}");
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len());
}

#[test]
fn results_survive_the_registers() {
    for (rax, rdx) in [(0, 0), (1, u64::MAX), (u64::MAX >> 1, 7)] {
        assert_eq!(Error::decode(rax, rdx), Ok((rax, rdx)));
    }
}

#[test]
fn a_code_that_nobody_knows_is_not_lost() {
    let rax = 1 << 63 | 999;
    assert_eq!(Error::decode(rax, 5), Err(Error::Unknown(rax)));
}

#[test]
fn an_error_says_its_value() {
    assert!(Error::Unaligned(0xabc).to_string().ends_with("(0xabc)"));
    assert!(Error::BadEnv(0).to_string().ends_with("(0x0)"));
    assert!(Error::BadCount(10).to_string().ends_with("(10)"));
    assert!(Error::NoEnvs(512).to_string().ends_with("(all 512 are in use)"));
    assert!(Error::BadState(Status::Runnable as u64).to_string().ends_with("(Runnable)"));
    assert!(Error::BadState(77).to_string().ends_with("(77)"));
}

#[test]
fn a_value_that_says_nothing_is_left_out() {
    assert_eq!(Error::NoMemory(0).to_string(), "out of page frames");
    assert_eq!(Error::NoChild(0).to_string(), "no such child");
    assert!(Error::NoMemory(3).to_string().ends_with("(3 free)"));
    assert!(Error::NoChild(3).to_string().ends_with("(0x3)"));
}

#[test]
fn calls_are_numbered_from_zero_without_gaps() {
    for (number, call) in (0..).zip(Call::ALL) {
        assert_eq!(*call as u64, number, "{call:?}");
        assert_eq!(Call::from_number(number), Some(*call));
    }
    assert_eq!(Call::from_number(Call::ALL.len() as u64), None);
    assert_eq!(Call::from_number(u64::MAX), None);
}

#[test]
fn calls_have_names_of_their_own() {
    let names: BTreeSet<_> = Call::ALL.iter().map(|call| call.name()).collect();
    assert_eq!(names.len(), Call::ALL.len());
    let lower = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(names.iter().all(lower), "{names:?}");
}

/// The address of an entry, by the picture: slot 255, then the indices shifted down by a level.
fn uvpt_by_indices(va: Va, level: Level) -> u64 {
    let mut path: Vec<u64> = vec![255; level as usize];
    path.extend(level.down_to().map(|level| va.index(level) as u64));
    let pages = path[..4].iter().fold(0, |address, index| address << 9 | index);
    pages << 12 | path[4] << 3
}

#[test]
fn the_self_map_has_an_entry_for_every_page_and_level() {
    let last = Va(USER_LIMIT.0 - 0x1000);
    for va in [Va(0), Va(0x1000), Va(0x1234_5678_9000), Va(SLOT_SIZE), last, UVPT] {
        for level in Level::DOWN {
            assert_eq!(uvpt(va, level).0, uvpt_by_indices(va, level), "{va} level {level}");
        }
    }
    assert_eq!(uvpt(Va(8 * 0x1000), Level::L1), Va(UVPT.0 + 64));
    assert_eq!(uvpt(UVPT, Level::L4).0 % 4096, 255 * 8);
}

#[test]
fn permissions_are_checked_bit_by_bit() {
    let both = Perms::WRITE | Perms::EXEC;
    assert_eq!(Perms::checked(both.bits()), Err(Error::BadPerms(both.bits())));
    for bit in (0..64).map(|bit| 1 << bit) {
        let known = Perms::all().bits() & bit != 0;
        let expected = if known { Ok(Perms::from_bits_retain(bit)) } else { Err(Error::BadPerms(bit)) };
        assert_eq!(Perms::checked(bit), expected);
        // Among other bits, only the undefined ones are reported.
        if !known {
            assert_eq!(Perms::checked(bit | both.bits()), Err(Error::BadPerms(bit)));
        }
    }
    assert_eq!(Perms::checked(0), Ok(Perms::READ));
    let most = Perms::all() - Perms::EXEC;
    assert_eq!(Perms::checked(most.bits()), Ok(most));
}

#[test]
fn no_permission_is_a_bit_of_the_processors_or_the_kernels() {
    let kernels = Pte::PRESENT | Pte::USER | Pte::ACCESSED | Pte::DIRTY | Pte::LARGE | Pte::MAY;
    let global = 1 << 8;
    assert_eq!(Perms::all().bits() & (kernels | global | Pte::FRAME), 0);
}

#[test]
fn entries_give_back_what_was_put_in() {
    for perms in [Perms::READ, Perms::WRITE | Perms::KEEP, Perms::EXEC, Perms::COW | Perms::SOFT] {
        let pte = Pte::page(Frame(0xf_ffff), perms);
        assert!(pte.is_present() && pte.has(Pte::USER) && !pte.is_empty());
        assert_eq!((pte.frame(), pte.perms()), (Frame(0xf_ffff), perms));
        assert_eq!(pte.has(Pte::NO_EXEC), !perms.contains(Perms::EXEC));
    }
    for word in [1, 17, Pte::MARK_MAX] {
        let mark = Pte::mark(word);
        assert!(!mark.is_present() && !mark.is_empty());
        assert_eq!(mark.word(), word);
    }
    assert!(Pte::mark(0).is_empty());
}

#[test]
fn ids_give_back_slot_and_generation() {
    for (generation, slot) in [(1, 0), (1, 63), (7, EnvId::MAX_SLOTS - 1), (EnvId::MAX_GENERATION, 1)] {
        let id = EnvId::new(generation, slot);
        assert_eq!((id.generation(), id.slot()), (generation, slot));
        assert_ne!(id, EnvId::NONE);
    }
    assert_eq!(EnvId::new(1, 0).to_string(), "00001000");
    assert_eq!(EnvId::new(EnvId::MAX_GENERATION, EnvId::MAX_SLOTS - 1).0, u32::MAX);
}

#[test]
fn statuses_give_back_their_numbers() {
    for number in 0..=9 {
        assert_eq!(Status::from_number(number).map(|status| status as u64), Some(number));
    }
    assert_eq!(Status::from_number(10), None);
    assert_eq!(Status::from_number(1 << 32), None);
}

#[test]
fn exit_codes_of_the_emulator_stand_for_statuses() {
    for status in 0..=ExitStatus::KERNEL_PANIC.0 {
        let code = 2 * exit_code(status) as i32 + 1;
        assert!(code != 1, "status {status} looks like an emulator that could not start");
        assert!(code < 256, "status {status} does not fit in an exit code");
        assert_eq!(status_of_exit(code), Some(status));
    }
    for code in [-1, 0, 1, 2, 4, 254, 256, 257] {
        assert_eq!(status_of_exit(code), None, "exit code {code}");
    }
}

#[test]
fn exit_statuses_do_not_overlap() {
    assert_eq!([0, 63].map(ExitStatus::from_register), [Ok(ExitStatus(0)), Ok(ExitStatus(ExitStatus::PROGRAM_MAX))]);
    assert!([64, 256, u64::MAX].iter().all(|bad| ExitStatus::from_register(*bad) == Err(Error::BadStatus(*bad))));
    let killed: Vec<_> = (0..32).map(|vector| ExitStatus::killed_by(Vector(vector))).collect();
    for (vector, status) in (0..).zip(&killed) {
        assert_eq!(status.vector(), Some(Vector(vector)));
        assert!(status.0 > ExitStatus::PROGRAM_MAX && *status < ExitStatus::DESTROYED);
    }
    let others = [
        ExitStatus::DESTROYED,
        ExitStatus::UNFIT_PROCESSOR,
        ExitStatus::DEADLOCK,
        ExitStatus::TIMEOUT,
        ExitStatus::TOOL_FAILED,
        ExitStatus::KERNEL_PANIC,
    ];
    assert!(others.iter().all(|status| status.vector().is_none() && status.0 < 128));
    assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
}

#[test]
fn users_choose_no_flag_that_is_the_kernels() {
    let (interrupts, iopl, nested, resume, virtual_8086) = (1 << 9, 3 << 12, 1 << 14, 1 << 16, 1 << 17);
    assert_eq!(USER_RFLAGS & (interrupts | iopl | nested | resume | virtual_8086), 0);
    assert_eq!(FIXED_RFLAGS, interrupts | 2);
}

#[test]
fn an_operation_without_its_first_pages_is_the_rest() {
    let op = PageOp::map(EnvId(1), Va(0x1000), EnvId(2), Va(0x9000), 5, Perms::COW);
    let rest = PageOp::map(EnvId(1), Va(0x3000), EnvId(2), Va(0xb000), 3, Perms::COW);
    assert_eq!(op.skip(2), rest);
    assert_eq!(op.skip(0), op);
    assert_eq!(op.skip_pages(2), rest);
    let seal = |va, tables| PageOp::protect_tables(EnvId(1), Va(va), tables, Level::L3, Perms::WRITE);
    assert_eq!(seal(0, 5).skip(2), seal(2 << 30, 3));
}

/// The arguments of a page call, in the documented order.
#[test]
fn page_calls_come_in_registers() {
    let (a, b) = (EnvId(0x1001), EnvId(0x2002));
    let (from, to, perms) = (Va(0x5000), Va(0x9000), Perms::WRITE | Perms::KEEP);
    let bits = perms.bits();
    let cases = [
        (Call::Alloc, [0x1001, 0x9000, 7, bits, 8, 9], PageOp::alloc(a, to, 7, perms)),
        (Call::Protect, [0x1001, 0x9000, 7, bits, 8, 9], PageOp::protect(a, to, 7, perms)),
        (Call::Unmap, [0x1001, 0x9000, 7, 0, 8, 9], PageOp::unmap(a, to, 7)),
        (Call::Mark, [0x1001, 0x9000, 7, 55, 8, 9], PageOp::mark(a, to, 7, 55)),
        (Call::Own, [0x9000, 7, 0, 7, 8, 9], PageOp::own(to, 7)),
        (Call::Map, [0x1001, 0x5000, 0x2002, 0x9000, 7, bits], PageOp::map(a, from, b, to, 7, perms)),
        (Call::Copy, [0x1001, 0x5000, 0x2002, 0x9000, 7, bits], PageOp::copy(a, from, b, to, 7, perms)),
        (Call::ShareTables, [0x1001, 0x5000, 0x2002, 0x9000, 7, 3], PageOp::share_tables(a, from, b, to, 7, Level::L3)),
        (Call::OwnTables, [0x9000, 7, 2, 7, 8, 9], PageOp::own_tables(to, 7, Level::L2)),
        (Call::UnmapTables, [0x1001, 0x9000, 7, 4, 8, 9], PageOp::unmap_tables(a, to, 7, Level::L4)),
        (Call::ProtectTables, [0x1001, 0x9000, 7, 3, bits, 9], PageOp::protect_tables(a, to, 7, Level::L3, perms)),
    ];
    for (call, registers, op) in cases {
        assert_eq!(PageOp::from_registers(call, registers), Ok(op), "{call:?}");
        let is_used = |place| place < call.arguments().len();
        let used = std::array::from_fn(|place| if is_used(place) { registers[place] } else { 0 });
        assert_eq!((op.call, op.to_registers()), (call as u32, Some(used)), "{call:?}");
    }
    for call in Call::ALL.iter().filter(|call| cases.iter().all(|case| case.0 != **call)) {
        assert_eq!(PageOp::from_registers(*call, [1; 6]), Err(Error::BadCall(*call as u64)));
        assert_eq!(PageOp { call: *call as u32, ..PageOp::own(to, 7) }.to_registers(), None);
    }
    let wide = 1 << 32;
    assert_eq!(PageOp::from_registers(Call::Map, [wide, 0, wide + 1, 0, wide, 0]), Err(Error::BadEnv(wide)));
    assert_eq!(PageOp::from_registers(Call::Map, [0, 0, wide + 1, 0, wide, 0]), Err(Error::BadEnv(wide + 1)));
    assert_eq!(PageOp::from_registers(Call::Map, [0, 0, 0, 0, wide, 0]), Err(Error::BadCount(wide)));
}

/// The arguments of other calls, in the documented order.
#[test]
fn arguments_come_in_registers() {
    let (env, from, perms) = (EnvId(0x1001), EnvId(0x2002), Perms::WRITE | Perms::KEEP);
    let message =
        args::SendRecv { env, value: 2, va: Va(3), perms, recv_va: Va(5), from: Awaited { env: from, ticks: 9 } };
    let registers = [0x1001, 2, 3, perms.bits(), 5, 0x9_0000_2002];
    assert_eq!(message.to_registers(), registers);
    assert_eq!(args::SendRecv::from_registers(registers), Ok(message));
    let upcall = args::SetUpcall { env, entry: 2, stack: Va(3), pages: 4 };
    assert_eq!(upcall.to_registers(), [0x1001, 2, 3, 4, 0, 0]);
    assert_eq!(args::SetUpcall::from_registers([0x1001, 2, 3, 4, 5, 6]), Ok(upcall));
    assert_eq!(args::Id {}.to_registers(), [0; 6]);
    let wide = 1 << 32;
    assert_eq!(args::Wait::from_registers([wide, 1, 0, 0, 0, 0]), Err(Error::BadEnv(wide)));
    assert_eq!(Call::SendRecv.places(["from", "value"]), [5, 1]);
}

#[test]
fn tables_have_levels() {
    let level = |level| PageOp { arg: level, ..PageOp::own_tables(Va(0), 1, Level::L2) }.level();
    assert_eq!([2, 3, 4].map(level), [Ok(Level::L2), Ok(Level::L3), Ok(Level::L4)]);
    assert!([0, 1, 5, 1 << 32, u64::MAX].iter().all(|bad| level(*bad) == Err(Error::BadLevel(*bad))));
}

#[test]
fn calls_name_what_is_theirs_to_name() {
    let end = |limit: Va, pages| Va(limit.0 - pages * PAGE_SIZE);
    for (va, fits) in [(Va(0), u64::MAX), (end(USER_LIMIT, 3), 3)] {
        let most = fits.min(USER_LIMIT.0 / PAGE_SIZE);
        assert_eq!((va.user_run(most), va.source_run(most)), (Ok(va), Ok(va)));
        assert_eq!(va.user_run(most + 1), Err(Error::BadAddress(va.0)));
        assert_eq!(va.source_run(most + 1), Err(Error::BadAddress(va.0)));
    }
    for va in [USER_LIMIT, ARCHIVE, UVPT, Va(!0xfff)] {
        assert_eq!(va.user_run(0), Err(Error::BadAddress(va.0)));
    }
    assert_eq!(end(ARCHIVE_END, 2).source_run(2), Ok(end(ARCHIVE_END, 2)));
    assert_eq!(end(ARCHIVE_END, 2).source_run(3), Err(Error::BadAddress(end(ARCHIVE_END, 2).0)));
    assert_eq!(ARCHIVE_END.source_run(1), Err(Error::BadAddress(ARCHIVE_END.0)));
    assert_eq!(Va(0x1001).user_run(u64::MAX), Err(Error::Unaligned(0x1001)));
    for level in Level::TABLES {
        let last = Va(SCRATCH.0 - span(level));
        assert_eq!(last.table_run(1, level), Ok(last));
        assert_eq!(last.table_run(2, level), Err(Error::BadAddress(last.0)));
        assert_eq!(SCRATCH.table_run(1, level), Err(Error::BadAddress(SCRATCH.0)));
        let middle = Va(span(level) - PAGE_SIZE);
        assert_eq!(middle.table_run(1, level), Err(Error::Unaligned(middle.0)));
    }
}

/// The units that these bytes decode to, and whether the last unit is incomplete.
fn decoded(bytes: impl IntoIterator<Item = u8>) -> (Vec<Input>, bool) {
    let (mut decoder, mut found, mut open) = (Decoder::new(), Vec::new(), false);
    for byte in bytes {
        let input = decoder.push(byte);
        open = input.is_none();
        found.extend(input);
    }
    (found, open)
}

#[test]
fn input_is_read_as_it_was_written() {
    let keys = [Key::End, Key::Erase, Key::EraseLine].map(Input::Key);
    let all: Vec<_> = (0..=255).map(Input::Byte).chain(keys).chain([Input::End]).collect();
    // Each unit after each other unit.
    for one in &all {
        let both = all.iter().flat_map(|other| [*one, *other]);
        let expected: Vec<_> = both.clone().collect();
        assert_eq!(decoded(both.flat_map(Input::encode)), (expected, false));
    }
    // Piped input is all data; of the typed bytes, only those of the keys are not data.
    assert!((0..=255).all(|byte| matches!(decoded(Input::Byte(byte).encode()).0[..], [Input::Byte(b)] if b == byte)));
    let is_key = |byte: &u8| !matches!(Input::typed(*byte), Input::Byte(_));
    assert!((0..=255).filter(is_key).eq([0x04, 0x08, 0x15, 0x7f]));
    assert!(keys.into_iter().all(|key| matches!(key, Input::Key(code) if Input::typed(code.byte()) == key)));
}

/// Another reader has read some of the input, and may have ended in the middle of a unit.
#[test]
fn the_end_of_input_is_seen_wherever_one_begins() {
    for bytes in 2..9 {
        let (found, _) = decoded(std::iter::repeat_n(ESCAPE, bytes));
        assert_eq!(found, vec![Input::End; bytes / 2]);
    }
}

#[test]
fn frames_begin_at_multiples_of_a_page_below_16_tib() {
    assert_eq!(Frame::at(0xfed9_0000), Some(Frame(0xf_ed90)));
    assert_eq!(Frame::at((1 << 44) - PAGE_SIZE), Some(Frame(u32::MAX)));
    for bad in [1, 0xfed9_0800, 1 << 44, u64::MAX] {
        assert_eq!(Frame::at(bad), None, "{bad:#x}");
    }
}
