//! Tests with simulated PCI functions, and with a simulated unit that demands what hardware demands.

mod pci;
mod random;
mod simulated;
mod unit;
