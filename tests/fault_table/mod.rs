//! For each fault: numbered messages by four ways at once, readers on every transport of three nodes, and the verdict:
//! which messages were lost, doubled or out of order, and whether a gap was reported.
//!
//! `tests/fault_table/run` runs it, as `tests/run` does; with `--write` it puts the rows into docs/faults.md.

mod faults;
mod flow;
mod verdict;
