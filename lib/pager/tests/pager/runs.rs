//! Runs of adjacent entries, against a search that looks at each entry alone.

use abi::{Frame, PAGE_SIZE, Perms, Pte, Va};
use pager::runs::{Entries, Singly, runs, varying};
use proptest::prelude::*;

/// Entries in a table, of which the empty ones are skipped; and how many like ones are passed over at once, at most.
struct Table<'a> {
    entries: &'a [Pte],
    next: usize,
    most: usize,
}

impl Iterator for Table<'_> {
    type Item = (Va, Pte);

    fn next(&mut self) -> Option<(Va, Pte)> {
        self.next += self.entries[self.next..].iter().position(|entry| !entry.is_empty())?;
        self.next += 1;
        Some((Va((self.next as u64 - 1) * PAGE_SIZE), self.entries[self.next - 1]))
    }
}

impl Entries for Table<'_> {
    fn pass_alike(&mut self, like: Pte) -> u64 {
        let varies = varying(like);
        let rest = self.entries[self.next..].iter().take(self.most);
        let alike = rest.take_while(|entry| (entry.0 ^ like.0) & !varies == 0).count();
        self.next += alike;
        alike as u64
    }
}

fn entry() -> impl Strategy<Value = Pte> {
    let flags = prop::sample::select(vec![0, Pte::ACCESSED, Pte::DIRTY, Pte::WRITABLE, Perms::COW.bits()]);
    prop_oneof![
        1 => Just(Pte(0)),
        1 => (1..3_u64).prop_map(Pte::mark),
        6 => (1..4_u32, flags).prop_map(|(frame, flags)| Pte(Pte::page(Frame(frame), Perms::READ).0 | flags)),
    ]
}

/// The runs, found entry by entry.
fn expected<T: PartialEq>(entries: &[Pte], kind: impl Fn(Pte) -> Option<T>) -> Vec<(Va, u32, T)> {
    let mut found: Vec<(Va, u32, T)> = Vec::new();
    for (number, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.is_empty()) {
        let (va, Some(kind)) = (Va(number as u64 * PAGE_SIZE), kind(*entry)) else { continue };
        match found.last_mut() {
            Some((first, count, same)) if first.add_pages((*count).into()) == va && *same == kind => *count += 1,
            _ => found.push((va, 1, kind)),
        }
    }
    found
}

proptest! {
    /// Runs of each kind are the same, however many entries are passed over at once.
    #[test]
    fn runs_are_complete(entries in prop::collection::vec(entry(), 0..60), most in 0..20_usize) {
        let table = || Table { entries: &entries, next: 0, most };
        let perms = |entry: Pte| entry.is_present().then(|| entry.perms());
        prop_assert_eq!(runs(table(), |_, entry| perms(entry)).collect::<Vec<_>>(), expected(&entries, perms));
        let dirty = |entry: Pte| entry.has(Pte::DIRTY).then_some(());
        prop_assert_eq!(runs(table(), |_, entry| dirty(entry)).collect::<Vec<_>>(), expected(&entries, dirty));
        let any = |_: Pte| Some(());
        prop_assert_eq!(runs(table(), |_, entry| any(entry)).collect::<Vec<_>>(), expected(&entries, any));
        let word = |entry: Pte| (!entry.is_present()).then(|| entry.word());
        prop_assert_eq!(runs(table(), |_, entry| word(entry)).collect::<Vec<_>>(), expected(&entries, word));
        let frame = |entry: Pte| Some(entry.frame());
        prop_assert_eq!(runs(Singly(table()), |_, entry| frame(entry)).collect::<Vec<_>>(), expected(&entries, frame));
    }
}
