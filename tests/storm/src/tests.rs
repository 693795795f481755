//! The coverage of the storm: a call that is always refused, or always in the same way, tests little.

use crate::place::{CODE, DESK, FIXTURES, TEXT_TABLE};
use crate::{Keep, Mode, Plan, World, model::Model, play};
use abi::{Call, Error, PAGE_SIZE, layout::EXCEPTION_STACK_TOP};

/// A machine, in the form in which the program describes it.
fn machine() -> Model {
    let top = EXCEPTION_STACK_TOP.0;
    let low = top - 4 * PAGE_SIZE;
    let mut lines = vec![format!("stack {low:x} {top:x}"), format!("pages {low:x} 4")];
    lines.extend([TEXT_TABLE, CODE, DESK].map(|page| format!("pages {page:x} 1")));
    lines.extend(FIXTURES.map(|page| format!("fixture {page:x} 2 ")));
    lines.push("machine 1000 40 1000".to_owned());
    Model::from_description(lines.iter().map(String::as_str)).expect("a complete description")
}

const CALLS: [Call; 11] = [
    Call::Alloc,
    Call::Map,
    Call::Copy,
    Call::Protect,
    Call::Unmap,
    Call::Mark,
    Call::Own,
    Call::ShareTables,
    Call::OwnTables,
    Call::UnmapTables,
    Call::ProtectTables,
];

#[test]
fn page_calls_come_to_everything() {
    let mut model = machine();
    let free = model.free();
    let plan = Plan { mode: Mode::Plenty, seed: 1, first: 0, episodes: 100, verbose: false, keep: Keep::ALL };
    play(&mut model, &plan);
    assert_eq!(model.free(), free, "every episode gives everything back");
    let demand = |call: Call, error: Option<Error>, least| {
        let times = model.reached(call, error);
        assert!(times >= least, "{} came to {error:?} {times} times, less than {least}", call.name());
    };
    for call in CALLS {
        demand(call, None, 80);
        demand(call, Some(Error::TableShared(0)), 20);
    }
    for (call, error) in [
        (Call::ShareTables, Error::Mapped(0)),
        (Call::ShareTables, Error::NotMapped(0)),
        (Call::ShareTables, Error::Pinned(0)),
        (Call::OwnTables, Error::NotMapped(0)),
        (Call::UnmapTables, Error::NotShared(0)),
        (Call::UnmapTables, Error::Pinned(0)),
        (Call::ProtectTables, Error::NotMapped(0)),
        (Call::ProtectTables, Error::Pinned(0)),
        (Call::ProtectTables, Error::BadPerms(0)),
    ] {
        demand(call, Some(error), 40);
    }
    for call in [Call::ShareTables, Call::OwnTables, Call::UnmapTables, Call::ProtectTables] {
        for error in [Error::BadLevel(0), Error::Unaligned(0), Error::BadAddress(0), Error::BadCount(0)] {
            demand(call, Some(error), 10);
        }
    }
    let [kept, copied] = model.owned_tables();
    assert!(kept > 200 && copied > 200, "{kept} tables were kept when they were owned, {copied} were copied");
}
