//! `#[gpu_only]`: the host's stand-in says which function was called, instead of failing to link.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemFn;

pub fn expand(item: TokenStream) -> syn::Result<TokenStream> {
    let ItemFn {
        attrs,
        vis,
        sig,
        block,
    } = syn::parse2(item)?;
    let message = format!(
        "`{}` runs on the GPU only: launch a kernel that calls it",
        sig.ident
    );
    Ok(quote! {
        #(#attrs)*
        #[cfg_attr(not(target_arch = "nvptx64"), allow(unused_variables, clippy::missing_safety_doc))]
        #vis #sig {
            #[cfg(not(target_arch = "nvptx64"))]
            { ::core::panic!(#message) }
            #[cfg(target_arch = "nvptx64")]
            #block
        }
    })
}
