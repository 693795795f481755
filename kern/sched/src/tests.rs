//! Tests of every order of events, for two or three processors.

mod interrupts;
mod life;
mod messages;
mod world;
