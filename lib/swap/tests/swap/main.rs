//! The parts of the swapping pager.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`slots`] | slots by themselves |

mod slots;
