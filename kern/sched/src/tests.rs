//! Tests of every order of events, for two or three processors.

mod life;
mod messages;
mod world;
