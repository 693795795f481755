//! The page-ins of policies that know what a pager cannot know.

use crate::traces::Trace;
use std::collections::{BTreeSet, HashMap};

/// MIN (Belady): evicts the page that is accessed again last. No policy brings in fewer pages.
pub fn min(trace: &Trace, frames: usize) -> usize {
    let all = all(trace);
    let mut next = HashMap::new();
    let mut keys: Vec<usize> = (0..all.len()).rev().map(|i| next.insert(all[i], i).unwrap_or(usize::MAX)).collect();
    keys.reverse();
    page_ins(trace, frames, &keys)
}

/// LRU: evicts the page that was accessed first, with the knowledge of all accesses.
pub fn lru(trace: &Trace, frames: usize) -> usize {
    let keys: Vec<usize> = (0..all(trace).len()).rev().collect();
    page_ins(trace, frames, &keys)
}

/// The accesses of a trace, with the first access to each page before them.
fn all(trace: &Trace) -> Vec<u32> {
    (0..trace.pages).chain(trace.accesses.iter().map(|page| page.0)).collect()
}

/// The page-ins if the page is evicted whose last access has the highest key.
fn page_ins(trace: &Trace, frames: usize, keys: &[usize]) -> usize {
    let (mut order, mut present) = (BTreeSet::new(), HashMap::new());
    let mut page_ins = 0;
    for (i, (page, &key)) in all(trace).into_iter().zip(keys).enumerate() {
        if let Some(before) = present.insert(page, key) {
            order.remove(&(before, page));
        } else {
            page_ins += usize::from(i >= trace.pages as usize);
            if order.len() == frames {
                let (_, victim) = order.pop_last().expect("a machine has a frame");
                present.remove(&victim);
            }
        }
        order.insert((key, page));
    }
    page_ins
}
