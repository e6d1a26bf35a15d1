//! Delta discovery: who may ask ([`authorize`]), what each proxy is entitled to ([`view`], of shared [`resources`]), what
//! it holds and is to be sent ([`subscriptions`], without I/O), and the [`service`] that ties these to streams.

pub mod authorize;
pub mod resources;
pub mod service;
pub mod subscriptions;
pub mod view;
