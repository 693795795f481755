//! The acts of a worker of `soak`: an act makes children, ends them all, and checks what they did.
//!
//! A worker can be destroyed at any moment, and all its descendants end with it.

use crate::bare::{CODE, Code, RAX, RSP};
use crate::buffers;
use crate::kit::{Crew, Ends, Must, add, child, fail, get, is_running, pause, set, until};
use crate::troupe::{Family, LINES, anybody, check_page, fill_page, mailbox};
use libos::mmap::{MmapMut, MmapOptions};
use libos::upcall::{self, Outcome};
use libos::{Child, Command, EnvId, ExitStatus, PAGE_SIZE, Perms, Status, Va, abi::Error, env, ipc, println, raw, sys};

type Act = fn(&Family);

/// The acts, by name.
pub const ACTS: [(&str, Act); 14] = [
    ("faults", faults),
    ("forks", forks),
    ("talks", talk),
    ("letters", letters),
    ("lines", line),
    ("destroyed", destroyed),
    ("orphaned", orphans),
    ("dropped", last_reference),
    ("steered", steered),
    ("cut", buffer),
    ("taken", taken),
    ("refused", strangers),
    ("programs", program),
    ("yields", yields),
];

const ME: EnvId = EnvId::SELF;
const SIZE: usize = PAGE_SIZE as usize;
const PAGE: Va = Va(0x2000_0000_0000);
const OTHER: Va = Va(0x2100_0000_0000);
const NOWHERE: Va = Va(0x3000_0000_0000);
/// The limit of printed lines: they take long.
const MOST_LINES: u64 = 500;

/// A child that repeats `body` forever.
fn tireless(body: impl Fn()) -> Child {
    child(|| {
        loop {
            body();
        }
    })
}

/// Ends a child that never ends by itself.
fn put_down(child: Child) {
    let _ = child.kill();
    let status = child.status();
    if status != ExitStatus::DESTROYED {
        fail!("{} was destroyed: {status}", child.id());
    }
}

/// First touches in random order, and pages that are freed.
fn faults(family: &Family) {
    let pages = family.up_to(40);
    let mut memory = anonymous(pages);
    let mut written = 0u64;
    for _ in 0..2 * pages {
        let page = family.draw.below(pages);
        match family.draw.below(8) {
            0 => {
                memory.discard(page as usize * SIZE..(page as usize + 1) * SIZE).must("discard");
                written &= !(1 << page);
            }
            1..4 => memory[page as usize * SIZE + 9] = 0,
            _ => {
                memory[page as usize * SIZE + 8] = 1 + page as u8;
                written |= 1 << page;
            }
        }
        let expected = if written >> page & 1 == 1 { 1 + page as u8 } else { 0 };
        let found = memory[page as usize * SIZE + 8];
        if found != expected {
            fail!("page {page} of {pages}: {found}, {expected} expected");
        }
    }
}

fn anonymous(pages: u64) -> MmapMut {
    MmapOptions::new().len(pages as usize * SIZE).map_anon().must("memory")
}

/// A tree that shares pages copy-on-write; all write to them, and none sees the others' writes.
fn forks(family: &Family) {
    let mut memory = anonymous(family.up_to(12));
    grow(family, &mut memory, family.draw.below(3));
}

fn grow(family: &Family, memory: &mut MmapMut, depth: u64) {
    sign(memory, env::id());
    let count = if depth == 0 { 0 } else { family.up_to(2) };
    let crew = Crew::new(count as usize, |_| {
        child(|| {
            has_signed(memory, env::parent());
            grow(family, memory, depth - 1);
        })
    });
    pause(family.draw.below(2000));
    sign(memory, env::id());
    pause(family.draw.below(2000));
    has_signed(memory, env::id());
    crew.ends();
}

fn sign(memory: &mut MmapMut, id: EnvId) {
    memory.chunks_mut(SIZE).for_each(|page| page[100..104].copy_from_slice(&id.0.to_le_bytes()));
}

fn has_signed(memory: &MmapMut, id: EnvId) {
    for (number, page) in memory.chunks(SIZE).enumerate() {
        if page[100..104] != id.0.to_le_bytes() && id != EnvId::NONE {
            fail!("page {number}: {:x?}, {id} expected", &page[100..104]);
        }
    }
}

/// Questions with pages, and answers with pages.
fn talk(family: &Family) {
    let questions = family.up_to(30);
    let me = env::id();
    let server = child(|| serve(me, questions));
    for question in 0..questions {
        fresh(OTHER, question);
        let mut answer = None;
        until("the server listens", || {
            match sys::send_recv(server.id(), question, Some((OTHER, Perms::WRITE)), Some(PAGE), server.id()) {
                Ok(message) => answer = Some(message),
                Err(Error::NotReceiving(_)) => {}
                Err(error) => fail!("question {question}: {error:?}"),
            }
            answer.is_some()
        });
        let answer = answer.filter(|answer| answer.page && answer.value == 3 * question);
        if answer.is_none() {
            fail!("question {question} of {questions} was not answered");
        }
        check_page(Some(PAGE), 3 * question);
        // The server has written to the pages that it received.
        check_page(Some(OTHER), !question);
    }
    server.ends();
    sys::unmap(ME, PAGE, 1).must("unmap");
    sys::unmap(ME, OTHER, 1).must("unmap");
}

/// Maps a fresh page with this content.
fn fresh(page: Va, value: u64) {
    sys::alloc(ME, page, 1, Perms::WRITE).must("alloc");
    fill_page(page, value);
}

fn serve(client: EnvId, questions: u64) {
    for question in 0..questions {
        let asked = match sys::recv(Some(PAGE), client) {
            Ok(message) => message,
            Err(Error::BadEnv(_)) => return,
            Err(error) => fail!("serve: {error:?}"),
        };
        if asked.value != question || asked.from != client {
            fail!("question {question} expected: {asked:?}");
        }
        check_page(asked.page.then_some(PAGE), question);
        fill_page(PAGE, !question);
        fresh(OTHER, 3 * question);
        match ipc::send_page(client, 3 * question, OTHER, Perms::READ) {
            Ok(()) => {}
            Err(Error::BadEnv(_)) => return,
            Err(error) => fail!("answer: {error:?}"),
        }
    }
}

/// Pages for a receiver that may end at any moment.
fn letters(family: &Family) {
    for letter in 0..family.up_to(20) {
        let value = family.draw.below(u64::MAX) ^ letter;
        fresh(OTHER, value);
        match ipc::send_page(mailbox(&family.draw), value, OTHER, Perms::WRITE) {
            Ok(()) | Err(Error::BadEnv(_)) => {}
            Err(error) => fail!("letter: {error:?}"),
        }
    }
    sys::unmap(ME, OTHER, 1).must("unmap");
}

/// Prints a line; the test checks that it is whole.
fn line(family: &Family) {
    if get(LINES) < MOST_LINES {
        add(LINES);
        let letters = family.draw.below(100) as usize;
        println!("a line of {letters} letters: {:a<letters$}", "");
    }
}

/// The work of children until they are ended.
const WORK: [Act; 9] = [
    |_| pause(100),
    |_| {
        upcall::set_handler(|_| Outcome::Resume);
        _ = raw::read_u64(NOWHERE.0);
    },
    |_| {
        sys::alloc(ME, PAGE, 20, Perms::WRITE).must("alloc");
        sys::protect(ME, PAGE, 20, Perms::READ).must("protect");
        sys::unmap(ME, PAGE, 20).must("unmap");
    },
    |_| {
        let other = sys::exofork().must("exofork");
        sys::alloc(other, PAGE, 3, Perms::WRITE).must("alloc");
        sys::map(other, PAGE, ME, PAGE, 3, Perms::WRITE).must("map");
        sys::destroy(other).must("destroy");
        sys::unmap(ME, PAGE, 3).must("unmap");
        until("the end of a child", || sys::try_wait(other).must("wait").is_some());
    },
    |_| child(|| pause(300)).ends(),
    |_| {
        let parent = env::parent();
        if parent != EnvId::NONE {
            _ = sys::recv(Some(PAGE), parent);
        }
    },
    |_| _ = sys::send(env::parent(), 1, None),
    |_| {
        _ = tireless(sys::yield_now).wait();
    },
    |family| {
        pause(family.draw.below(100) * family.draw.below(100));
        sys::exit(OWN_END.0);
    },
];
/// The status of children that end by themselves.
const OWN_END: ExitStatus = ExitStatus(7);

/// Children are ended in the middle of their work, or at about the time when they end by themselves.
fn destroyed(family: &Family) {
    let crew = Crew::new(family.up_to(3) as usize, |_| {
        let work = WORK[family.draw.below(WORK.len() as u64) as usize];
        tireless(|| work(family))
    });
    pause(family.draw.below(100) * family.draw.below(100));
    for child in crew.each() {
        match child.kill() {
            Ok(()) | Err(Error::BadEnv(_)) => {}
            Err(error) => fail!("destroy {}: {error:?}", child.id()),
        }
    }
    for child in crew.each() {
        let status = child.status();
        if status != ExitStatus::DESTROYED && status != OWN_END {
            fail!("{} was destroyed: {status}", child.id());
        }
    }
}

/// A child ends while its own children go on, or have ended without being waited for.
fn orphans(family: &Family) {
    let count = family.up_to(3);
    let early = family.draw.below(2) == 0;
    let ended = family.word(0);
    let parent = child(|| {
        for _ in 0..count {
            child(|| {
                pause(family.draw.below(3000));
                let mut memory = anonymous(4);
                sign(&mut memory, env::id());
                if !early {
                    add(ended);
                }
            });
        }
        until("the end", || !early);
    });
    if early {
        pause(family.draw.below(60) * family.draw.below(60));
        return put_down(parent);
    }
    parent.ends();
    // No environment can wait for them; but they report on the board.
    until("orphans end", || get(ended) == count);
}

/// All sharers of some pages give them up at the same moment; and the frames are reused.
fn last_reference(family: &Family) {
    let (pages, count) = (family.up_to(8), family.up_to(3));
    let (ready, go) = (family.word(0), family.word(1));
    let each = || (0..pages).map(|page| PAGE.add_pages(page));
    // Fork shares these pages, and copies nothing.
    sys::alloc(ME, PAGE, pages, Perms::WRITE | Perms::KEEP).must("alloc");
    each().for_each(|page| fill_page(page, page.0 ^ count));
    let crew = Crew::new(count as usize, |_| {
        child(|| {
            add(ready);
            until("the others", || get(go) != 0);
            each().for_each(|page| check_page(Some(page), page.0 ^ count));
            sys::unmap(ME, PAGE, pages).must("unmap");
        })
    });
    until("all are there", || get(ready) == count);
    set(go, 1);
    pause(family.draw.below(3000));
    sys::unmap(ME, PAGE, pages).must("unmap");
    sys::alloc(ME, OTHER, pages, Perms::WRITE).must("alloc");
    let again = || (0..pages).map(|page| OTHER.add_pages(page));
    again().for_each(|page| check_page(Some(page), 0));
    again().for_each(|page| fill_page(page, 0xbad));
    crew.ends();
    again().for_each(|page| check_page(Some(page), 0xbad));
    sys::unmap(ME, OTHER, pages).must("unmap");
}

/// Exception stacks of a child that is controlled from outside, a page each.
const STACKS: [Va; 2] = [Va(0x2000_0000), Va(0x2020_0000)];

/// A loop that counts; one that faults; and an upcall that counts and returns to the second loop.
fn loops(family: &Family) -> (Code, [usize; 2], u64) {
    let mut code = Code::new();
    code.count(family.word(0));
    code.jump(0);
    let faulting = code.here();
    code.load(RAX, NOWHERE.0).add(&[0x8b, 0x08]); // mov ecx, [rax]
    let entry = code.here();
    code.count(family.word(1));
    code.load(RSP, 0).jump(faulting);
    (code, [0, faulting], CODE.0 + entry as u64)
}

/// A child is stopped, sent elsewhere, and given other exception stacks, while it runs.
fn steered(family: &Family) {
    let (code, places, entry) = loops(family);
    let text = code.publish();
    let id = text.child();
    STACKS.into_iter().for_each(|stack| sys::alloc(id, stack, 1, Perms::WRITE).must("alloc"));
    sys::set_upcall(id, entry, STACKS[0], 1).must("set_upcall");
    text.start(id);
    let (mut stack, mut place) = (0, 0);
    for _ in 0..family.up_to(12) {
        let count = || get(family.word(place));
        let before = count();
        until("it counts", || count() != before);
        if family.draw.below(2) == 0 {
            let old = STACKS[stack];
            stack = 1 - stack;
            sys::set_upcall(id, entry, STACKS[stack], 1).must("set_upcall");
            sys::unmap(id, old, 1).must("unmap");
            sys::alloc(id, old, 1, Perms::WRITE).must("alloc");
            continue;
        }
        sys::set_status(id, Status::Stopped).must("stop");
        let before = count();
        pause(family.draw.below(1000));
        if is_running(id) || count() != before {
            fail!("{id} is stopped, and goes on");
        }
        if family.draw.below(2) == 0 {
            place = 1 - place;
            text.go_to(id, places[place]);
        }
        text.start(id);
    }
    sys::destroy(id).must("destroy");
    let mut ended = None;
    until("the end of a child", || {
        ended = sys::try_wait(id).must("wait");
        ended.is_some()
    });
    if ended != Some((id, ExitStatus::DESTROYED)) {
        fail!("{id} was destroyed: {ended:?}");
    }
}

/// A child repeats a call whose buffer is cut in two again and again.
fn buffer(family: &Family) {
    let (good, missed) = (family.word(0), family.word(1));
    let caller = child(|| {
        sys::alloc(ME, buffers::BUFFER, 1, Perms::WRITE).must("alloc");
        buffers::write_marks(Va(buffers::BORDER - 2 * buffers::OP));
        loop {
            match buffers::mark_across() {
                Ok((4, 0)) => _ = add(good),
                Err(Error::Fault(buffers::BORDER)) => _ = add(missed),
                other => fail!("marks: {other:x?}"),
            }
        }
    });
    until("it calls", || get(missed) != 0);
    for _ in 0..family.up_to(20) {
        sys::alloc(ME, PAGE, 1, Perms::WRITE).must("alloc");
        buffers::write_marks(PAGE);
        sys::map(ME, PAGE, caller.id(), Va(buffers::BORDER), 1, Perms::READ).must("map");
        sys::unmap(ME, PAGE, 1).must("unmap");
        pause(family.draw.below(3000));
        sys::unmap(caller.id(), Va(buffers::BORDER), 1).must("unmap");
        // The frame is reused at once, with content that is not a valid operation.
        fresh(PAGE, u64::MAX);
        sys::unmap(ME, PAGE, 1).must("unmap");
    }
    put_down(caller);
}

const GOOD: u64 = 0x600d_600d_600d_600d;

/// A child reads a page all the time, which is taken away from it and reused at once.
fn taken(family: &Family) {
    let read = family.word(0);
    let reader = child(|| {
        upcall::set_handler(|fault| if fault.address == PAGE.0 { Outcome::Resume } else { Outcome::Unhandled });
        loop {
            let value = raw::read_u64(PAGE.0);
            if value != GOOD {
                fail!("{value:#x} in a page that was taken away");
            }
            add(read);
        }
    });
    // With a mark after the page, its page table stays: so the first freed frame is that of the page.
    sys::mark(reader.id(), PAGE.add_pages(1), 1, 1).must("mark");
    sys::mark(ME, OTHER.add_pages(4), 1, 1).must("mark");
    for _ in 0..family.up_to(20) {
        fresh(OTHER, GOOD);
        sys::map(ME, OTHER, reader.id(), PAGE, 1, Perms::READ).must("map");
        sys::unmap(ME, OTHER, 1).must("unmap");
        let before = get(read);
        until("it reads", || get(read) != before);
        sys::unmap(reader.id(), PAGE, 1).must("unmap");
        (0..4).for_each(|page| fresh(OTHER.add_pages(page), !GOOD));
        pause(family.draw.below(3000));
        sys::unmap(ME, OTHER, 4).must("unmap");
    }
    sys::unmap(ME, OTHER.add_pages(4), 1).must("unmap");
    put_down(reader);
}

/// Requests of other environments that must be refused.
fn strangers(family: &Family) {
    let id = anybody(&family.draw);
    if id == env::id() || id == EnvId::NONE {
        return;
    }
    let registers = libos::Registers { rip: CODE.0, ..libos::Registers::default() };
    let results = [
        sys::destroy(id),
        sys::set_status(id, Status::Stopped),
        sys::set_regs(id, &registers),
        sys::set_upcall(id, 0, Va(0), 0),
        sys::alloc(id, PAGE, 1, Perms::WRITE),
        sys::map(id, PAGE, ME, PAGE, 1, Perms::READ),
        sys::unmap(id, PAGE, 1),
    ];
    for (number, result) in results.into_iter().enumerate() {
        if !matches!(result, Err(Error::NotYours(_) | Error::BadEnv(_))) {
            fail!("call {number} for a stranger: {result:?}");
        }
    }
    match sys::try_wait(id) {
        Err(Error::NoChild(_)) => {}
        other => fail!("wait for a stranger: {other:?}"),
    }
}

fn program(_: &Family) {
    match Command::new("true").status() {
        Ok(ExitStatus::SUCCESS) => {}
        other => fail!("true: {other:?}"),
    }
}

fn yields(family: &Family) {
    for _ in 0..family.up_to(20) {
        match sys::yield_to(anybody(&family.draw)) {
            Ok(()) | Err(Error::BadEnv(_)) => {}
            Err(error) => fail!("yield: {error:?}"),
        }
    }
}
