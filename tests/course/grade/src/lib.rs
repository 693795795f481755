//! The library of `cargo xtask grade` and `cargo xtask handout`.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`rubric`] | what is graded, from `tests/course/rubric.toml` |
//! | [`names`], [`unpack`], [`place`] | kinds of files by name; archives read as data; which file is which |
//! | [`permitted`] | which files students may change |
//! | [`submission`], [`tree`] | what somebody handed in; the reference with those files laid over it |
//! | [`compile`], [`trial`] | builds the programs of a tree; runs a test of the rubric |
//! | [`hints`] | likely causes of a failure |
//! | [`result`], [`format`] | the result of a submission, and its file formats |
//! | [`class`], [`shard`] | many submissions, and a part of them for each of several graders |
//! | [`grade`], [`cli`] | the grading of one tree; the command line |
//! | [`handout`] | the solution without its answers |
//! | [`mutants`] | the mistakes that the grader must find |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod class;
pub mod cli;
pub mod compile;
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
