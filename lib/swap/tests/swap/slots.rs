//! Slots, compared with a set.

use proptest::prelude::*;
use std::collections::BTreeMap;
use swap::{NotShared, Slot, Slots};

#[derive(Clone, Debug)]
enum Step {
    Take(usize),
    Share(prop::sample::Index),
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..20).prop_map(Step::Take),
        any::<prop::sample::Index>().prop_map(Step::Share),
        any::<prop::sample::Index>().prop_map(Step::Release),
        any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

fn taken(slots: &mut Slots, most: usize) -> Vec<Slot> {
    let (first, count) = slots.take_run(most).unwrap_or((Slot::new(1).expect("not 0"), 0));
    (0..count).map(|index| first.ahead(index)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Each slot has as many owners as the model says.
    #[test]
    fn slots_agree_with_a_set(limit in 1u32..200, counted: bool, steps in prop::collection::vec(step(), 1..200)) {
        let (mut words, mut counts) = (vec![0; Slots::words(limit)], vec![0; limit as usize]);
        let mut slots = match counted {
            true => Slots::with_counts(&mut words, &mut counts, limit),
            false => Slots::new(&mut words, limit),
        };
        let mut owners: BTreeMap<Slot, usize> = BTreeMap::new();
        for step in steps {
            let nth = |index: prop::sample::Index| {
                (!owners.is_empty()).then(|| *owners.keys().nth(index.index(owners.len())).expect("it is there"))
            };
            match step {
                Step::Take(most) => {
                    let new = taken(&mut slots, most);
                    assert_eq!(new.is_empty(), owners.len() == limit as usize - 1);
                    assert!(new.len() <= most);
                    for slot in new {
                        assert!(slot.number() < limit && owners.insert(slot, 1).is_none(), "{slot} has an owner");
                    }
                }
                Step::Share(index) => {
                    let Some(slot) = nth(index) else { continue };
                    assert_eq!(slots.share(slot), if counted { Ok(()) } else { Err(NotShared(slot)) });
                    *owners.get_mut(&slot).expect("it is there") += usize::from(counted);
                }
                Step::Release(index) => {
                    let Some(slot) = nth(index) else { continue };
                    slots.release(slot);
                    *owners.get_mut(&slot).expect("it is there") -= 1;
                    owners.retain(|_, count| *count > 0);
                }
            }
            assert_eq!(slots.free(), limit as usize - 1 - owners.len());
        }
    }
}

#[test]
fn runs_are_as_long_as_they_can_be() {
    let mut words = vec![0; Slots::words(256)];
    let mut slots = Slots::new(&mut words, 256);
    let all: Vec<_> = std::iter::from_fn(|| slots.take_run(32)).collect();
    let lengths: Vec<_> = all.iter().map(|(_, count)| *count).collect();
    assert_eq!(lengths, [32, 32, 32, 32, 32, 32, 32, 31]);
    // Holes of one slot before a hole of ten.
    for number in (3..30).step_by(3).chain(100..110) {
        slots.release(Slot::new(number).expect("not 0"));
    }
    assert_eq!(slots.take_run(8).map(|(first, count)| (first.number(), count)), Some((100, 8)));
}

#[test]
fn a_slot_has_as_many_owners_as_can_be_counted() {
    let (mut words, mut counts) = (vec![0; 1], vec![0; 8]);
    let mut slots = Slots::with_counts(&mut words, &mut counts, 8);
    let (slot, _) = slots.take_run(1).expect("all are free");
    (0..u16::MAX).for_each(|_| slots.share(slot).expect("it can be counted"));
    assert_eq!(slots.share(slot), Err(NotShared(slot)));
    (0..u16::MAX).for_each(|_| slots.release(slot));
    assert!(!slots.is_free(slot));
    slots.release(slot);
    assert!(slots.is_free(slot));
}
