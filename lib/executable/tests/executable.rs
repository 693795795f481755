//! ELF files: one of each kind that must be refused, and many that are broken at random.

use abi::layout::{HEAP, PRIVATE, RESIDENT, TEXT};
use abi::{Level, PAGE_SIZE, Perms, Va, page::span};
use elf::abi::{
    ELFOSABI_FREEBSD, ELFOSABI_GNU, EM_386, EM_AARCH64, EM_X86_64, ET_CORE, ET_DYN, ET_EXEC, ET_REL, PF_R, PF_W, PF_X,
    PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_NOTE, PT_PHDR, PT_TLS,
};
use executable::{BadElf, MAX_SEGMENTS, PF_RESIDENT, Program, STACKS, Segment};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const HEADER: usize = 64;
const ENTRY: usize = 56;

/// A program header.
#[derive(Clone, Copy, Debug)]
struct Part {
    kind: u32,
    flags: u32,
    offset: u64,
    va: u64,
    file: u64,
    memory: u64,
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        let words = [self.offset, self.va, self.va, self.file, self.memory, PAGE_SIZE];
        let flags = [self.kind, self.flags];
        let bytes = flags.iter().flat_map(|word| word.to_le_bytes());
        bytes.chain(words.iter().flat_map(|word| word.to_le_bytes())).collect()
    }
}

/// The description of an ELF file.
#[derive(Clone, Debug)]
struct Image {
    machine: u16,
    kind: u16,
    entry: u64,
    parts: Vec<Part>,
    /// The length of the file.
    size: usize,
}

impl Image {
    fn bytes(&self) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(self.kind.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend([self.entry, HEADER as u64, 0].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(0_u32.to_le_bytes());
        let counts = [HEADER as u16, ENTRY as u16, self.parts.len() as u16, 64, 0, 0];
        file.extend(counts.iter().flat_map(|half| half.to_le_bytes()));
        assert_eq!(file.len(), HEADER);
        file.extend(self.parts.iter().flat_map(Part::bytes));
        file.resize(self.size.max(file.len()), 0xcc);
        file
    }

    fn parse(&self) -> Result<Program, BadElf> {
        Program::parse(&self.bytes())
    }
}

const CODE: Part =
    Part { kind: PT_LOAD, flags: PF_R | PF_X | PF_RESIDENT, offset: 0x1000, va: TEXT.0, file: 0x1800, memory: 0x1800 };
const DATA: Part =
    Part { kind: PT_LOAD, flags: PF_R | PF_W, offset: 0x2800, va: TEXT.0 + 0x2800, file: 0x900, memory: 0x5000 };

/// The segment that libos writes when it serves a fault.
const OWN_DATA: Part =
    Part { kind: PT_LOAD, flags: PF_R | PF_W | PF_RESIDENT, offset: 0, va: RESIDENT.0, file: 0, memory: 0x1001 };

/// A program with code, data that begins in the middle of a page, and constants that are not in the file.
fn good() -> Image {
    let blank = Part { flags: PF_R, offset: 7, va: TEXT.0 + 0x10_0000, file: 0, memory: 1, ..DATA };
    let note = Part { kind: PT_NOTE, va: u64::MAX, file: u64::MAX, ..CODE };
    let empty = Part { memory: 0, file: 0, va: 0, ..DATA };
    Image {
        machine: EM_X86_64,
        kind: ET_EXEC,
        entry: TEXT.0 + 0x17ff,
        parts: vec![note, CODE, empty, DATA, blank, OWN_DATA],
        size: 0x3100,
    }
}

/// The good program, with this code segment.
fn with_code(code: Part) -> Image {
    Image { parts: vec![code, DATA, OWN_DATA], ..good() }
}

/// The good program, with this data segment.
fn with_data(data: Part) -> Image {
    Image { parts: vec![CODE, data, OWN_DATA], ..good() }
}

#[test]
fn a_good_program_is_what_its_headers_say() {
    let program = good().parse().expect("it is a program");
    let at = |offset: u64| Va(TEXT.0 + offset);
    let segment = |start, end, offset, bytes, perms| Segment {
        start: at(start),
        end: at(end),
        offset,
        bytes,
        perms,
        resident: false,
    };
    assert_eq!(program.entry, at(0x17ff));
    let own = RESIDENT.0 - TEXT.0;
    assert_eq!(
        program.segments(),
        [
            Segment { resident: true, ..segment(0, 0x2000, 0x1000, 0x1800, Perms::EXEC) },
            segment(0x2000, 0x8000, 0x2000, 0x1100, Perms::WRITE),
            segment(0x10_0000, 0x10_1000, 0, 0, Perms::READ),
            Segment { resident: true, ..segment(own, own + 0x2000, 0, 0, Perms::WRITE) },
        ]
    );
}

#[test]
fn segments_may_fill_all_that_programs_have() {
    let blank = |start: Va, end: Va| Part { va: start.0, memory: end.0 - start.0, file: 0, offset: 0, ..DATA };
    let low = blank(TEXT.add_pages(2), STACKS.start);
    let private_end = Va(PRIVATE.0 + span(Level::L2));
    let own = Part { flags: OWN_DATA.flags, ..blank(RESIDENT, private_end) };
    let parts = vec![CODE, low, own, blank(private_end, HEAP)];
    let program = Image { parts, ..good() }.parse().expect("it leaves room for the stacks, and ends at the heap");
    let ends: Vec<_> = program.segments().iter().map(|segment| segment.end).collect();
    assert_eq!(ends, [TEXT.add_pages(2), STACKS.start, private_end, HEAP]);
}

#[test]
fn segments_where_the_stacks_are_are_refused() {
    let data = |start: u64, end: u64| {
        let part = Part { va: start, memory: end - start, file: 0, offset: 0, ..DATA };
        with_data(part).parse().err()
    };
    let (start, end) = (STACKS.start.0, STACKS.end.0);
    assert_eq!(data(start - 1, start), None);
    for (from, to) in [(start - 1, start + 1), (start, end), (start - 1, end + 1), (end - 1, end), (end - 1, end + 1)] {
        assert_eq!(data(from, to), Some(BadElf::Stacks(from)), "{from:#x}..{to:#x}");
    }
}

#[test]
fn a_file_that_ends_too_early_is_refused_wherever_it_ends() {
    let file = good().bytes();
    let headers = HEADER + good().parts.len() * ENTRY;
    for len in 0..file.len() {
        let error = Program::parse(&file[..len]).expect_err("it is cut off");
        match len {
            _ if len < headers => assert_eq!(error, BadElf::Headers, "{len} bytes"),
            _ if len < 0x2800 => assert_eq!(error, BadElf::CutOff(CODE.va), "{len} bytes"),
            _ => assert_eq!(error, BadElf::CutOff(DATA.va), "{len} bytes"),
        }
    }
}

#[test]
fn other_kinds_of_files_are_refused() {
    assert_eq!(Program::parse(b""), Err(BadElf::Headers));
    assert_eq!(Program::parse(&[b'x'; 8192]), Err(BadElf::NotElf));
    for machine in [EM_AARCH64, EM_386] {
        assert_eq!(Image { machine, ..good() }.parse(), Err(BadElf::Machine(machine.into())));
    }
    for kind in [ET_DYN, ET_REL, ET_CORE, 0] {
        assert_eq!(Image { kind, ..good() }.parse(), Err(BadElf::Type(kind.into())));
    }
    let with_byte = |at: usize, byte: u8| {
        let mut file = good().bytes();
        file[at] = byte;
        Program::parse(&file)
    };
    for system in [ELFOSABI_FREEBSD, 2, 255] {
        assert_eq!(with_byte(7, system), Err(BadElf::OsAbi(system.into())));
    }
    assert!(with_byte(7, ELFOSABI_GNU).is_ok(), "a file with sections that are to be retained");
    assert_eq!(with_byte(5, 2), Err(BadElf::ByteOrder(2)), "big-endian");
    assert_eq!(with_byte(5, 3), Err(BadElf::ByteOrder(3)), "no order at all");
    assert_eq!(with_byte(4, 7), Err(BadElf::Class(7)), "a class that is none");
    assert!(matches!(with_byte(4, 1), Err(BadElf::Class(1) | BadElf::Headers)), "32 bits");
    assert_eq!(with_byte(54, 55), Err(BadElf::Headers), "program headers of another size");
}

/// Programs as linkers make them for Linux, laid out as `readelf` shows them.
#[test]
fn programs_for_linux_are_refused() {
    let load = |flags, va: u64, file| Part { kind: PT_LOAD, flags, offset: va % PAGE_SIZE, va, file, memory: file };
    let other = |kind, va| Part { kind, ..load(PF_R, va, 0x10) };
    let parts =
        [load(PF_R, 0x40_0000, 0x500), load(PF_R | PF_X, 0x40_1000, 0x800), load(PF_R | PF_W, 0x40_2e00, 0x100)];
    let linux = |more: &[Part]| Image { entry: 0x40_1040, parts: [more, &parts].concat(), ..good() }.parse();
    assert_eq!(linux(&[]), Err(BadElf::NotResident(0x40_1040)), "static, without the C library");
    let (headers, stack) = (other(PT_PHDR, 0x40_0040), other(PT_GNU_STACK, 0));
    assert_eq!(linux(&[headers, stack]), Err(BadElf::NotResident(0x40_1040)));
    assert_eq!(linux(&[other(PT_TLS, 0x40_2e00)]), Err(BadElf::ThreadLocal(0x40_2e00)), "static");
    let interpreter = other(PT_INTERP, 0x40_0318);
    assert_eq!(linux(&[headers, interpreter]), Err(BadElf::Interpreter(0x40_0318)), "dynamic, not PIE");
    assert_eq!(linux(&[other(PT_DYNAMIC, 0x40_2e20)]), Err(BadElf::Dynamic(0x40_2e20)));
    // Even if everything that libos needs is present.
    let with = |part| Image { parts: vec![CODE, DATA, OWN_DATA, part], ..good() }.parse();
    assert_eq!(with(interpreter), Err(BadElf::Interpreter(0x40_0318)));
    // A real program, linked for Linux: this test.
    let own = std::fs::read(std::env::current_exe().expect("its own name")).expect("its own file");
    assert!(matches!(Program::parse(&own), Err(BadElf::Type(_) | BadElf::Interpreter(_))));
}

#[test]
fn programs_without_what_libos_needs_are_refused() {
    let code = Part { flags: PF_R | PF_X, ..CODE };
    let refused = |parts: &[Part]| Image { parts: parts.to_vec(), ..good() }.parse().err();
    let entry = good().entry;
    assert_eq!(refused(&[code, DATA, OWN_DATA]), Some(BadElf::NotResident(entry)));
    assert_eq!(refused(&[CODE, DATA]), Some(BadElf::NoResidentData(entry)));
    assert_eq!(refused(&[CODE, Part { flags: PF_R | PF_W, ..OWN_DATA }]), Some(BadElf::NoResidentData(entry)));
    assert_eq!(refused(&[CODE, OWN_DATA]), None);
    // Resident code elsewhere does not help.
    let elsewhere = Part { va: TEXT.0 + 0x10_0000, ..CODE };
    assert_eq!(refused(&[code, elsewhere, OWN_DATA]), Some(BadElf::NotResident(entry)));
    // Where fork would share the table above.
    let end = PRIVATE.0 + span(Level::L2);
    for (va, memory) in [(TEXT.0 + 0x10_0000, 1), (end, 1), (end - 1, 2), (STACKS.start.0 - 1, 1)] {
        let own = Part { va, memory, ..OWN_DATA };
        assert_eq!(refused(&[CODE, own]), Some(BadElf::ResidentData(va)), "{va:#x}");
    }
    // In the file, bytes that are not the program's follow the mapped part.
    let code = Part { memory: CODE.memory + 1, ..CODE };
    assert_eq!(refused(&[code, OWN_DATA]), Some(BadElf::Sparse(CODE.va)));
}

#[test]
fn too_few_and_too_many_segments_are_refused() {
    let apart = |n: u64| Part { va: CODE.va + n * 0x10_0000, ..CODE };
    let many = |count: usize| {
        let parts = (0..count.saturating_sub(1) as u64).map(apart);
        Image { parts: parts.chain((count > 0).then_some(OWN_DATA)).collect(), ..good() }
    };
    assert_eq!(many(MAX_SEGMENTS).parse().expect("just enough").segments().len(), MAX_SEGMENTS);
    assert_eq!(many(MAX_SEGMENTS + 1).parse(), Err(BadElf::Segments(MAX_SEGMENTS as u64 + 1)));
    assert_eq!(many(0).parse(), Err(BadElf::Segments(0)));
    let notes = vec![Part { kind: PT_NOTE, ..CODE }; 3];
    assert_eq!(Image { parts: notes, ..good() }.parse(), Err(BadElf::Segments(0)));
    let mut file = good().bytes();
    file[32..40].fill(0);
    assert_eq!(Program::parse(&file), Err(BadElf::Segments(0)), "no table of segments");
    // A count that refers to the first section header.
    let mut file = good().bytes();
    file[56..58].fill(0xff);
    assert!(Program::parse(&file).is_err());
}

#[test]
fn segments_that_are_not_in_the_file_are_refused() {
    let cut = BadElf::CutOff(DATA.va);
    assert_eq!(with_data(Part { file: 0x901, ..DATA }).parse(), Err(cut));
    assert_eq!(with_data(Part { offset: 0x3800, ..DATA }).parse(), Err(cut));
    assert_eq!(with_data(Part { offset: u64::MAX - 0x7ff, ..DATA }).parse(), Err(cut));
    assert_eq!(with_data(Part { file: u64::MAX, ..DATA }).parse(), Err(cut));
    assert_eq!(with_data(Part { memory: 0x8ff, ..DATA }).parse(), Err(BadElf::TooLarge(DATA.va)));
}

#[test]
fn segments_elsewhere_are_refused() {
    let code = |va: u64, memory: u64| with_code(Part { va, memory, ..CODE }).parse();
    let size = CODE.memory;
    for va in [0, TEXT.0 - 0x1000, HEAP.0, HEAP.0 - 0x1000, 0xffff_8000_0000_0000, u64::MAX - 0xfff] {
        assert_eq!(code(va, size), Err(BadElf::Misplaced(va)));
    }
    assert_eq!(code(TEXT.0, HEAP.0), Err(BadElf::Misplaced(TEXT.0)));
    assert_eq!(code(TEXT.0, HEAP.0 - TEXT.0 + 1), Err(BadElf::Misplaced(TEXT.0)));
    assert_eq!(code(TEXT.0, u64::MAX), Err(BadElf::Misplaced(TEXT.0)));
    assert_eq!(code(TEXT.0, u64::MAX - TEXT.0), Err(BadElf::Misplaced(TEXT.0)));
}

#[test]
fn segments_that_share_a_page_or_are_out_of_order_are_refused() {
    let swapped = Image { parts: vec![DATA, CODE], ..good() };
    assert_eq!(swapped.parse(), Err(BadElf::Overlap(CODE.va)));
    let twice = Image { parts: vec![CODE, CODE], ..good() };
    assert_eq!(twice.parse(), Err(BadElf::Overlap(CODE.va)));
    let next_byte = Part { va: CODE.va + CODE.memory, offset: 0x2800, ..DATA };
    assert_eq!(with_data(next_byte).parse(), Err(BadElf::Overlap(next_byte.va)));
}

#[test]
fn code_that_can_be_written_is_refused() {
    let both = Part { flags: PF_R | PF_W | PF_X, ..CODE };
    assert_eq!(with_code(both).parse(), Err(BadElf::WriteExec(CODE.va)));
    assert_eq!(with_code(Part { flags: PF_W | PF_X, ..CODE }).parse(), Err(BadElf::WriteExec(CODE.va)));
}

#[test]
fn segments_that_lie_in_the_file_otherwise_than_in_memory_are_refused() {
    for offset in [DATA.offset - 1, DATA.offset - 0x800, 0] {
        assert_eq!(with_data(Part { offset, ..DATA }).parse(), Err(BadElf::Unaligned(DATA.va)));
    }
    assert!(with_data(Part { offset: 0x1800, ..DATA }).parse().is_ok());
}

#[test]
fn an_entry_outside_code_is_refused() {
    for entry in [0, TEXT.0 - 1, TEXT.0 + 0x2000, DATA.va, TEXT.0 + 0x10_0000, HEAP.0, u64::MAX] {
        assert_eq!(Image { entry, ..good() }.parse(), Err(BadElf::Entry(entry)));
    }
    let no_code = with_code(Part { flags: PF_R | PF_RESIDENT, ..CODE });
    assert_eq!(no_code.parse(), Err(BadElf::Entry(no_code.entry)));
}

#[test]
fn every_reason_says_what_it_means() {
    let with_value = [
        BadElf::Class,
        BadElf::ByteOrder,
        BadElf::Machine,
        BadElf::OsAbi,
        BadElf::Type,
        BadElf::Interpreter,
        BadElf::Dynamic,
        BadElf::ThreadLocal,
        BadElf::Segments,
        BadElf::CutOff,
        BadElf::TooLarge,
        BadElf::Misplaced,
        BadElf::Stacks,
        BadElf::Overlap,
        BadElf::WriteExec,
        BadElf::Unaligned,
        BadElf::Sparse,
        BadElf::ResidentData,
        BadElf::Entry,
        BadElf::NotResident,
        BadElf::NoResidentData,
    ];
    let reasons: Vec<_> = with_value.iter().map(|reason| reason(77)).collect();
    let value = |reason: &BadElf| reason.to_string().contains("(0x4d)") || reason.to_string().contains("(77;");
    assert!(reasons.iter().all(value), "the offending value is missing");
    let reasons = [reasons, vec![BadElf::NotElf, BadElf::Headers]].concat();
    let mut texts: Vec<_> = reasons.iter().map(BadElf::to_string).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), reasons.len());
}

/// Checks the properties of every accepted program.
fn check(program: &Program, file: &[u8]) {
    let segments = program.segments();
    assert!((1..=MAX_SEGMENTS).contains(&segments.len()));
    assert!(segments.is_sorted_by(|one, next| one.end <= next.start));
    for segment in segments {
        let Segment { start, end, offset, bytes, perms, .. } = *segment;
        assert!(TEXT <= start && start < end && end <= HEAP, "{segment:?}");
        assert!(start.is_page_aligned() && end.is_page_aligned(), "{segment:?}");
        assert!(offset.is_multiple_of(PAGE_SIZE) && bytes <= end.0 - start.0, "{segment:?}");
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= file.len() as u64), "{segment:?}");
        assert!([Perms::READ, Perms::WRITE, Perms::EXEC].contains(&perms), "{segment:?}");
    }
    let code = |segment: &&Segment| segment.perms == Perms::EXEC && segment.range().contains(&program.entry);
    assert_eq!(segments.iter().filter(code).filter(|segment| segment.resident).count(), 1);
    assert!(segments.iter().any(|segment| segment.resident && segment.perms == Perms::WRITE));
    let is_clear = |segment: &Segment| segment.end <= STACKS.start || segment.start >= STACKS.end;
    assert!(segments.iter().all(is_clear), "{segments:?}");
}

/// Numbers that may be just too large, or just not.
fn number() -> impl Strategy<Value = u64> {
    let edges = vec![0, 1, PAGE_SIZE - 1, PAGE_SIZE, TEXT.0, HEAP.0, HEAP.0 - 1, 1 << 47, 1 << 63];
    let near = (select(edges), -2_i64..3).prop_map(|(edge, by)| edge.wrapping_add_signed(by));
    prop_oneof![near, 0..0x4000_u64, any::<u64>()]
}

/// The offsets and sizes of the numbers in a file.
fn field() -> impl Strategy<Value = (usize, usize)> {
    let header = [(16, 2), (18, 2), (20, 4), (24, 8), (32, 8), (40, 8), (52, 2), (54, 2), (56, 2), (58, 2), (60, 2)];
    let part = [(0, 4), (4, 4), (8, 8), (16, 8), (32, 8), (40, 8)];
    let in_part = (0..6_usize, select(part.to_vec())).prop_map(|(n, (at, size))| (HEADER + n * ENTRY + at, size));
    prop_oneof![1 => select(header.to_vec()), 4 => in_part]
}

/// Segments that are nearly in order.
fn part() -> impl Strategy<Value = Part> {
    let read = PF_R | PF_RESIDENT;
    let flags = select(vec![PF_R, read, PF_R | PF_W, PF_R | PF_X, PF_X | PF_RESIDENT, read | PF_X, PF_W | PF_X]);
    (flags, 0..4_u64, 0..0x3000_u64, 0..0x2000_u64, prop_oneof![Just(0), 0..0x3000_u64]).prop_map(
        |(flags, gap, at, file, more)| Part {
            kind: PT_LOAD,
            flags,
            offset: at,
            va: gap * PAGE_SIZE + at % PAGE_SIZE,
            file,
            memory: file + more,
        },
    )
}

/// Moves segments so that each begins behind the one before.
fn stack_up(parts: &mut [Part]) {
    let mut free = TEXT.0;
    for part in parts {
        part.va += free;
        free = Va(part.va + part.memory).page_up().0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_that_is_no_program_is_taken_for_one(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Program::parse(&bytes).is_err());
        let mut file = good().bytes()[..16].to_vec();
        file.extend(bytes);
        if let Ok(program) = Program::parse(&file) {
            check(&program, &file);
        }
    }

    #[test]
    fn a_program_with_broken_numbers_is_refused_or_harmless(
        fields in prop::collection::vec((field(), number()), 1..4),
        bytes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        cut in prop::option::weighted(0.1, any::<Index>()),
    ) {
        let mut file = good().bytes();
        for ((at, size), number) in fields {
            file[at..at + size].copy_from_slice(&number.to_le_bytes()[..size]);
        }
        for (at, byte) in bytes {
            file[at.index(HEADER + 6 * ENTRY)] = byte;
        }
        file.truncate(cut.map_or(file.len(), |cut| cut.index(file.len())));
        if let Ok(program) = Program::parse(&file) {
            check(&program, &file);
        }
    }

    #[test]
    fn what_is_accepted_is_what_the_headers_say(
        mut parts in prop::collection::vec(part(), 1..6),
        entry in any::<Index>(),
        size in 0x3000..0x6000_usize,
    ) {
        stack_up(&mut parts);
        let aimed = parts[entry.index(parts.len())];
        parts.push(OWN_DATA);
        let image = Image { entry: aimed.va, parts: parts.clone(), size, ..good() };
        let bad = |part: &Part| {
            part.memory > 0 && (part.offset + part.file > image.bytes().len() as u64
                || part.flags & (PF_W | PF_X) == PF_W | PF_X
                || part.flags & (PF_W | PF_RESIDENT) == PF_RESIDENT && part.file < part.memory)
        };
        let is_code = aimed.flags & PF_X != 0 && aimed.flags & PF_RESIDENT != 0 && aimed.memory > 0;
        let result = image.parse();
        prop_assert_eq!(result.is_ok(), is_code && !parts.iter().any(bad), "{:?}", result);
        let Ok(program) = result else { return Ok(()) };
        check(&program, &image.bytes());
        let loaded: Vec<_> = parts.iter().filter(|part| part.memory > 0).collect();
        prop_assert_eq!(program.segments().len(), loaded.len());
        for (segment, part) in program.segments().iter().zip(loaded) {
            prop_assert!(segment.start.0 <= part.va && part.va + part.memory <= segment.end.0);
            prop_assert!(part.file == 0 || segment.offset + segment.bytes == part.offset + part.file);
            prop_assert_eq!(segment.resident, part.flags & PF_RESIDENT != 0);
        }
    }
}
