//! Delta discovery: shared [`resources`], and what each stream holds and is to be sent ([`subscriptions`], without I/O).

pub mod resources;
pub mod subscriptions;
