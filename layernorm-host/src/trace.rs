//! Spans for whoever wants to see where the time goes: `forward` and `backward`, and within them `plan`,
//! `load` and `launch`, at level debug, in builds with the feature `tracing`. Without it they are nothing.

/// Enters a span until the end of the block.
macro_rules! span {
    ($name:literal $(, $($field:tt)*)?) => {
        #[cfg(feature = "tracing")]
        let _span = ::tracing::debug_span!(target: "layernorm", $name $(, $($field)*)?).entered();
    };
}

pub(crate) use span;
