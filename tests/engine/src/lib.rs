//! The engine of the guest tests and of the grader: it boots a program, collects what the machine prints, judges the
//! run, explains a failure, and says how to repeat the run.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`testbed`] | an emulator, kernels and programs: boots requests, and explains their failures |
//! | [`request`] | what to boot, and the commands that do the same by hand |
//! | [`disk`] | the disks of a run |
//! | [`run`] | the observed run: console, end, report; and demands on it |
//! | [`expect`] | demands on the lines of a console |
//! | [`failure`] | the explanation of a failure, as text |
//!
//! Guest tests add names and kernels (the package `tests`), the grader adds points and hints (the package `grade`).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod disk;
pub mod expect;
pub mod failure;
pub mod request;
pub mod run;
pub mod testbed;

pub use disk::{Disk, UsedDisk};
pub use failure::Failure;
pub use request::Request;
pub use run::{End, Run};
pub use testbed::Testbed;
