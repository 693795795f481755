//! A sketch of page maps: what they come to when all that is unimportant is left out.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`rule`] | the parts of the rule that `vm::tables` goes by, each with a switch |
//! | [`op`] | the operations, what they are done to, and why one is refused |
//! | [`state`] | tables, pages, and who has authority over what |
//! | [`act`] | what each operation does to a state, and which operations there are |
//! | [`fault`] | what is wrong with a state |
//! | [`real`] | the same operations on real page maps |

pub mod act;
pub mod fault;
pub mod op;
pub mod real;
pub mod rule;
pub mod state;
