//! Random steps: a device reaches exactly what it was given last.

use crate::simulated::{NO_CONTEXT_ENTRY, NO_READ, NO_WRITE, Simulated};
use crate::unit::{map, started};
use abi::{Frame, Perms, Pte, Va};
use devices::pci::Function;
use devices::remapping::{Domain, NONE, context_entry, set};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The function gets the page map with this number, or loses the one it has.
    Attach(u8, usize),
    Detach(u8),
    /// A page of a page map that no function has becomes this one, or none.
    Map(usize, u64, Option<(u32, bool)>),
    Access(u8, u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (function, number, page) = (any::<u8>().prop_map(|function| function % 3 * 100), 0..3_usize, 0..4_u64);
    prop_oneof![
        (function.clone(), number.clone()).prop_map(|(function, number)| Step::Attach(function, number)),
        function.clone().prop_map(Step::Detach),
        (number, page.clone(), any::<Option<(u16, bool)>>()).prop_map(|(number, page, to)| Step::Map(
            number,
            page,
            to.map(|(frame, write)| (0x10000 + u32::from(frame), write))
        )),
        (function, page, any::<bool>()).prop_map(|(function, page, write)| Step::Access(function, page, write)),
    ]
}

proptest! {
    #[test]
    fn devices_reach_what_they_were_given(steps in prop::collection::vec(step(), 1..200)) {
        let simulated = Simulated::new();
        let (mut unit, contexts) = started(&simulated);
        let (mut maps, mut has) = ([[None; 4]; 3], [None; 256]);
        let top = |number: usize| Frame(0x300 + 0x10 * number as u32);
        for step in steps {
            match step {
                Step::Attach(function, number) if has[usize::from(function)].is_none() => {
                    set(contexts, function, context_entry(top(number), Domain(number as u8)));
                    has[usize::from(function)] = Some(number);
                }
                Step::Detach(function) => {
                    set(contexts, function, NONE);
                    if let Some(number) = has[usize::from(function)].take() {
                        prop_assert_eq!(unit.invalidate(Domain(number as u8)), Ok(()));
                    }
                }
                Step::Map(number, page, to) if !has.contains(&Some(number)) => {
                    let perms = |write| if write { Perms::WRITE } else { Perms::READ };
                    let entry = to.map_or(Pte(0), |(frame, write)| Pte::page(Frame(frame), perms(write)));
                    map(&simulated.memory, top(number), Va(page << 12), entry);
                    maps[number][page as usize] = to;
                }
                Step::Access(function, page, write) => {
                    let entry = has[usize::from(function)].map(|number: usize| maps[number][page as usize]);
                    let expected = match entry {
                        None => Err(NO_CONTEXT_ENTRY),
                        Some(Some((frame, can_write))) if can_write || !write => Ok(Frame(frame).address()),
                        Some(_) => Err(if write { NO_WRITE } else { NO_READ }),
                    };
                    prop_assert_eq!(simulated.access(Function(function.into()), Va(page << 12), write), expected);
                }
                _ => {}
            }
        }
    }
}
