//! The swapping pager on a simulated machine with a TLB (the crate `sim`), and with a disk that does everything that a
//! disk may do.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`machine`] | the kernel |
//! | [`disk`] | the disk |
//! | [`world`] | a program with a pager, and a model of its memory |
//! | [`random`] | random steps |
//! | [`cases`] | single cases |
//! | [`compressed`] | compressed memory above the disk |
//! | [`failures`] | a disk that fails, and one that is full |
//! | [`slots`] | slots by themselves |
//! | [`figures`] | calls, requests and page-ins of sequences of accesses |

mod cases;
mod compressed;
mod disk;
mod failures;
mod figures;
mod machine;
mod random;
mod slots;
mod world;
