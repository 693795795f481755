//! What `cargo xtask grade` and `cargo xtask handout` do.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`rubric`], [`expect`] | what is graded, from `tests/course/rubric.toml`; what must be seen |
//! | [`names`], [`unpack`], [`place`] | what names say; archives read as data; which file is which |
//! | [`permitted`] | which files students may change |
//! | [`submission`], [`tree`] | what somebody handed in; the reference with it laid over |
//! | [`compile`], [`trial`] | builds the programs of a tree; boots one, and judges what came of it |
//! | [`hints`] | what a failure looks like |
//! | [`result`], [`format`] | what came of a submission; how that is written down |
//! | [`class`], [`shard`] | many submissions, and a part of them for each of several graders |
//! | [`grade`], [`cli`] | the grading of one tree; the command line |
//! | [`handout`] | the solution without its answers |
//! | [`mutants`] | the mistakes that the grader must find |

#![forbid(unsafe_code)]

pub mod class;
pub mod cli;
pub mod compile;
pub mod expect;
pub mod format;
pub mod grade;
pub mod handout;
pub mod hints;
pub mod mutants;
pub mod names;
pub mod permitted;
pub mod place;
pub mod result;
pub mod rubric;
pub mod shard;
pub mod submission;
pub mod tree;
pub mod trial;
pub mod unpack;
