//! A part of a class, for one of several graders.

use anyhow::{Context, Result};
use std::str::FromStr;

/// One of several graders that share a class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Shard> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            Some(Shard { index: index.parse().ok()?, count: count.parse().ok()? })
        };
        let shard = parse().filter(|shard| (1..=shard.count).contains(&shard.index));
        shard.with_context(|| format!("`{text}` is not a shard: 1/4 is the first of four"))
    }
}

impl Shard {
    /// The items of this shard. The assignment depends only on the order of all items.
    pub(crate) fn share<T>(self, all: Vec<T>) -> Vec<T> {
        let mine = |(place, _): &(usize, T)| place % self.count == self.index - 1;
        all.into_iter().enumerate().filter(mine).map(|(_, item)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_all_together() {
        let shares =
            ["1/3", "2/3", "3/3"].map(|shard| shard.parse::<Shard>().unwrap().share((0..7).collect::<Vec<_>>()));
        assert_eq!(shares, [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
        for bad in ["0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
