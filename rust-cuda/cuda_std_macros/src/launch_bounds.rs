//! `#[launch_bounds]`: rustc has no word for `.maxntid`, so the kernel's body gets a call that leaves
//! a comment in the PTX, which `cuda_builder` turns into the directive. The comment stands inside the
//! entry point, so that it needs no name, and the numbers are constants of the compiler's own, so
//! that any constant expression will do.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ItemFn, Result, Token, parse_quote};

pub struct LaunchBounds {
    max_threads: Expr,
    min_blocks: Option<Expr>,
}

impl LaunchBounds {
    /// From what stands between the attribute's parentheses.
    fn parse(arguments: TokenStream) -> Result<Self> {
        let span = arguments.span();
        let expressions = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(arguments)?;
        let count = expressions.len();
        let mut expressions = expressions.into_iter();
        match (expressions.next(), expressions.next(), count) {
            (Some(max_threads), min_blocks, 1 | 2) => Ok(Self {
                max_threads,
                min_blocks,
            }),
            _ => Err(Error::new(
                span,
                format!(
                    "launch_bounds has {count} arguments: write `#[launch_bounds(max_threads)]` \
                     or `#[launch_bounds(max_threads, min_blocks)]`"
                ),
            )),
        }
    }

    /// Takes the attribute out of `attributes`, if it is there.
    pub fn take(attributes: &mut Vec<Attribute>) -> Result<Option<Self>> {
        let mut found = None;
        let mut kept = Vec::with_capacity(attributes.len());
        for attribute in attributes.drain(..) {
            if !is_named(&attribute, "launch_bounds") {
                kept.push(attribute);
            } else if found.is_some() {
                return Err(Error::new_spanned(
                    attribute,
                    "launch_bounds is given twice: a kernel has one",
                ));
            } else {
                let list = attribute.meta.require_list()?;
                found = Some(Self::parse(list.tokens.clone())?);
            }
        }
        *attributes = kept;
        Ok(found)
    }

    /// The statements that stand first in the kernel's body.
    pub fn statements(&self) -> TokenStream {
        let max_threads = &self.max_threads;
        let min_blocks = match &self.min_blocks {
            Some(blocks) => blocks.to_token_stream(),
            None => quote!(0),
        };
        let check_blocks = self.min_blocks.as_ref().map(|blocks| {
            quote_spanned! {blocks.span()=>
                #[allow(clippy::assertions_on_constants)]
                const _: () = ::core::assert!(
                    (#blocks) <= 32,
                    "launch_bounds: min_blocks must be 0 (none) to 32, the most blocks a multiprocessor can have"
                );
            }
        });
        let check_threads = quote_spanned! {max_threads.span()=>
            #[allow(clippy::assertions_on_constants)]
            const _: () = ::core::assert!(
                1 <= (#max_threads) && (#max_threads) <= 1024,
                "launch_bounds: max_threads must be 1 to 1024, the most threads a block can have"
            );
        };
        quote! {
            #check_threads
            #check_blocks
            ::cuda_std::ext::launch_bounds::<{ #max_threads }, { #min_blocks }>();
        }
    }
}

/// The attribute on its own, which is only right above `#[kernel]`: it then goes below, where
/// `#[kernel]` reads it.
pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut function: ItemFn = syn::parse2(item)?;
    let Some(at) = function
        .attrs
        .iter()
        .position(|attribute| is_named(attribute, "kernel"))
    else {
        return Err(Error::new_spanned(
            &function.sig,
            "launch_bounds is for kernels: add `#[kernel]` to this function",
        ));
    };
    LaunchBounds::parse(arguments.clone())?;
    function
        .attrs
        .insert(at + 1, parse_quote!(#[launch_bounds(#arguments)]));
    Ok(function.into_token_stream())
}

/// Whether the attribute's path ends in `name`, however it is qualified.
fn is_named(attribute: &Attribute, name: &str) -> bool {
    attribute
        .path()
        .segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}
