//! What the grader, and the tests of the grader, have in common.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mutants`] | the mistakes that the grader must find |

#![forbid(unsafe_code)]

pub mod mutants;
