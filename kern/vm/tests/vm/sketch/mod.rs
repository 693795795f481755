//! A sketch of page maps: a simplified model without unimportant parts.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`rule`] | the parts of the rule that `vm::sharing` follows, each with a switch |
//! | [`op`] | the operations, their operands, and the reasons for a refusal |
//! | [`state`] | tables, pages, and authority over pages |
//! | [`act`] | the effect of each operation on a state, and the list of operations |
//! | [`fault`] | violations of a state |
//! | [`real`] | these operations on real page maps |

pub mod act;
pub mod fault;
pub mod op;
pub mod real;
pub mod rule;
pub mod state;
