//! Every short sequence of operations on shared tables, tried.
//!
//! A [`State`] is a simplified set of page maps: a few page maps of one page or two, three levels of tables, and
//! rights. A [`Rule`] has a switch for each part of the rule that `vm::sharing` follows. With all of them on, no
//! sequence of operations leads to a wrong state (`fault.rs` defines that); with any one of them off, one does, and
//! the test prints it: this proves that the part is needed.
//!
//! Then the test executes these sequences on real page maps, and compares entries, results and counts.

use crate::sketch::op::{Op, Shape};
use crate::sketch::real::Real;
use crate::sketch::rule::{RULE, Rule, broken_rules};
use crate::sketch::state::State;
use crate::world::ALL;
use sim::machine::free_frames;
use std::collections::{HashSet, VecDeque};

/// The results of a search.
struct Found {
    /// The shortest way to every state.
    ways: Vec<Vec<Op>>,
    /// A way to a wrong state, and the violation.
    wrong: Option<(Vec<Op>, &'static str)>,
}

/// Finds all states that this many operations lead to, the near ones first.
fn search(shape: Shape, rule: Rule, depth: usize, most: usize) -> Found {
    let start = State::new(shape, rule);
    let mut seen = HashSet::from([start.key()]);
    // Ways share their beginnings: each has the index of the previous state, and the last operation.
    let mut steps: Vec<(usize, Option<Op>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(start, 0, 0)]);
    let way = |steps: &[(usize, Option<Op>)], mut at: usize| {
        let mut way = Vec::new();
        while let (before, Some(op)) = steps[at] {
            way.push(op);
            at = before;
        }
        way.reverse();
        way
    };
    while let Some((state, number, done)) = queue.pop_front() {
        if done == depth {
            continue;
        }
        for op in state.ops() {
            let mut next = state.clone();
            let (result, wrong) = next.step(op);
            if result.is_err() && !matches!(op, Op::ShareTable(..)) {
                continue;
            }
            if let Some(wrong) = wrong {
                let way = way(&steps, number).into_iter().chain([op]).collect();
                return Found { ways: Vec::new(), wrong: Some((way, wrong)) };
            }
            if seen.len() < most && seen.insert(next.key()) {
                steps.push((number, Some(op)));
                queue.push_back((next, steps.len() - 1, done + 1));
            }
        }
    }
    Found { ways: (0..steps.len()).map(|state| way(&steps, state)).collect(), wrong: None }
}

/// Tables of tables; aliases under another table of the same page map; neighbours in a table.
const SHAPES: [Shape; 3] = [
    Shape { maps: 3, entries: [1, 2, 1], frames: 2 },
    Shape { maps: 2, entries: [2, 1, 1], frames: 2 },
    Shape { maps: 2, entries: [1, 2, 2], frames: 2 },
];

#[test]
fn no_sequence_of_operations_leads_to_a_state_that_is_wrong() {
    for (shape, depth, most) in SHAPES.into_iter().zip([6, 7, 6]).map(|(shape, depth)| (shape, depth, 20_000)) {
        let found = search(shape, RULE, depth, most);
        assert_eq!(found.wrong, None, "{shape:?}");
        let deepest = found.ways.iter().map(Vec::len).max();
        println!("{} states, up to {deepest:?} operations, in {shape:?}", found.ways.len());
        assert!(found.ways.len() > 1000);
    }
}

#[test]
fn each_part_of_the_rule_is_needed() {
    for (part, rule) in broken_rules() {
        let wrong = SHAPES.into_iter().find_map(|shape| search(shape, rule, 7, 12_000).wrong);
        let (way, what) = wrong.unwrap_or_else(|| panic!("nothing is wrong without this: {part}"));
        println!("without \"{part}\", {what}: {way:?}");
    }
}

#[test]
fn real_page_maps_do_the_same() {
    for shape in SHAPES {
        let mut real = Real::new(shape);
        for way in search(shape, RULE, 5, 250).ways {
            let mut state = State::new(shape, RULE);
            for op in &way {
                _ = state.step(*op);
            }
            state.ops().into_iter().for_each(|op| real.play(&way, op));
        }
        assert_eq!(free_frames(), ALL - shape.maps);
    }
}
