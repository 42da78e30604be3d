//! Names for static shared memory. rustc has no address spaces, so the variables are declared by
//! `cuda_builder`, and each use of a macro needs a number that no other has, in any crate of the
//! program, and that is the same in every build.

use std::sync::atomic::{AtomicU32, Ordering};

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::{Result, Type};

/// From a type to a call that gives the address in shared memory of a variable of that type.
pub fn expand(input: TokenStream) -> Result<TokenStream> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let ty: Type = syn::parse2(input)?;
    let crate_name = std::env::var("CARGO_CRATE_NAME").unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let krate = Literal::u32_suffixed(fnv1a(crate_name.as_bytes()));
    let site = Literal::u32_suffixed(count);
    Ok(quote!(::cuda_std::shared::__static_address::<#ty, #krate, #site>()))
}

/// A hash that is the same on every machine, which the standard library's need not be.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_matches_its_published_values() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
