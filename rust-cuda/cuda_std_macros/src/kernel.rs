//! `#[kernel]`: refuses what cannot be an entry point, then names the function, gives it the
//! kernels' calling convention on the device, and splits its slices.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericParam, ItemFn, Meta, Pat, PatType, Result, ReturnType,
    Signature, Type, TypeReference, Visibility,
};

use crate::launch_bounds::LaunchBounds;

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "kernel takes no arguments: write `#[kernel]`; bounds go into `#[launch_bounds(...)]`",
        ));
    }
    let mut function: ItemFn = syn::parse2(item)?;
    let launch_bounds = LaunchBounds::take(&mut function.attrs)?;
    check(&function)?;
    let parameters = parameters(&function.sig)?;
    let (names, attributes): (Vec<Attribute>, Vec<Attribute>) =
        function.attrs.into_iter().partition(is_name);
    let name = entry_name(names)?;

    let visibility = &function.vis;
    let identifier = &function.sig.ident;
    let generics = &function.sig.generics;
    let clause = &function.sig.generics.where_clause;
    let body = &function.block;
    let declared = parameters.iter().map(|parameter| &parameter.declared);
    let checks = parameters.iter().map(|parameter| &parameter.check);
    let bindings = parameters.iter().map(|parameter| &parameter.binding);
    let bounds = launch_bounds.map(|bounds| bounds.statements());
    let signature = quote!(fn #identifier #generics (#(#declared),*) #clause);
    let content = quote! {{
        #(#checks)*
        #bounds
        #(#bindings)*
        #body
    }};
    // Under its own name alone on the host: `scale` and `reduce` are other libraries' symbols there.
    Ok(quote! {
        #(#attributes)*
        #[cfg(target_arch = "nvptx64")]
        #name
        #visibility unsafe extern "ptx-kernel" #signature #content

        #(#attributes)*
        #[cfg(not(target_arch = "nvptx64"))]
        #[allow(dead_code)]
        #visibility unsafe #signature #content
    })
}

/// What an entry point cannot be, each with the reason at the token that is wrong.
fn check(function: &ItemFn) -> Result<()> {
    let Signature {
        constness,
        asyncness,
        unsafety,
        abi,
        generics,
        variadic,
        output,
        fn_token,
        ..
    } = &function.sig;
    let mut errors = Vec::new();
    if let Some(token) = constness {
        errors.push(Error::new_spanned(
            token,
            "a kernel cannot be `const`: the driver launches it",
        ));
    }
    if let Some(token) = asyncness {
        errors.push(Error::new_spanned(
            token,
            "a kernel cannot be `async`: nothing on the device would poll it",
        ));
    }
    if let Some(abi) = abi {
        errors.push(Error::new_spanned(
            abi,
            "a kernel's calling convention is set by `#[kernel]`: leave `extern` out",
        ));
    }
    if let Some(variadic) = variadic {
        errors.push(Error::new_spanned(
            variadic,
            "a kernel cannot be variadic: the driver packs a fixed list of parameters",
        ));
    }
    if !matches!(function.vis, Visibility::Public(_)) {
        errors.push(Error::new_spanned(
            fn_token,
            "a kernel must be `pub`: it is called from outside this program",
        ));
    }
    if unsafety.is_none() {
        errors.push(Error::new_spanned(
            fn_token,
            "a kernel must be an `unsafe fn`: nothing checks the pointers and sizes it is launched with",
        ));
    }
    for parameter in &generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            errors.push(Error::new_spanned(
                parameter,
                "a kernel cannot be generic: the host finds it by one name. Write a generic inner \
                 function, and a kernel for each instance that calls it",
            ));
        }
    }
    if let ReturnType::Type(_, ty) = output {
        errors.push(Error::new_spanned(
            ty,
            "a kernel returns nothing: write the result through a pointer parameter",
        ));
    }
    errors
        .into_iter()
        .reduce(|mut all, error| {
            all.combine(error);
            all
        })
        .map_or(Ok(()), Err)
}

/// One parameter as written, as the driver sees it.
struct Parameter {
    /// In the entry point's parameter list.
    declared: TokenStream,
    /// A statement that compiles if the type may be a parameter.
    check: TokenStream,
    /// A statement that gives the body the parameter as it was written.
    binding: TokenStream,
}

fn parameters(signature: &Signature) -> Result<Vec<Parameter>> {
    signature
        .inputs
        .iter()
        .enumerate()
        .map(|(position, input)| match input {
            FnArg::Receiver(receiver) => Err(Error::new_spanned(
                receiver,
                "a kernel cannot take `self`: it must be a free function",
            )),
            FnArg::Typed(parameter) => one_parameter(position, parameter),
        })
        .collect()
}

fn one_parameter(position: usize, parameter: &PatType) -> Result<Parameter> {
    let PatType { attrs, pat, ty, .. } = parameter;
    let bare = peel(ty);
    if let Type::ImplTrait(_) = bare {
        return Err(Error::new_spanned(
            ty,
            "a kernel cannot be generic: `impl Trait` here is a type parameter",
        ));
    }
    let Type::Reference(reference) = bare else {
        return Ok(as_written(parameter));
    };
    if reference.mutability.is_some() {
        return Err(Error::new_spanned(
            ty,
            "a kernel cannot take `&mut`: every thread of the grid would hold it. Take `*mut T`, \
             and a length if it is needed",
        ));
    }
    match peel(&reference.elem) {
        Type::Slice(slice) => {
            let stem = match &**pat {
                Pat::Ident(name) => name.ident.to_string(),
                _ => format!("parameter_{position}"),
            };
            let pointer = format_ident!("__{stem}_pointer", span = pat.span());
            let length = format_ident!("__{stem}_length", span = pat.span());
            let element = &slice.elem;
            let TypeReference { lifetime, .. } = reference;
            Ok(Parameter {
                declared: quote!(#(#attrs)* #pointer: *const #element, #(#attrs)* #length: usize),
                check: copy_check(element),
                binding: quote! {
                    // SAFETY: the kernel is unsafe to launch, with this as a condition: the pointer
                    // has `length` readable elements that nothing writes while it runs.
                    let #pat: & #lifetime [#element] = unsafe {
                        ::core::slice::from_raw_parts(#pointer, #length)
                    };
                },
            })
        }
        Type::Path(path) if path.path.is_ident("str") => Err(Error::new_spanned(
            ty,
            "a kernel cannot take `&str`: take `&[u8]`",
        )),
        Type::TraitObject(_) => Err(Error::new_spanned(
            ty,
            "a kernel cannot take a trait object: the host's function addresses mean nothing on the device",
        )),
        _ => Ok(as_written(parameter)),
    }
}

fn as_written(parameter: &PatType) -> Parameter {
    Parameter {
        declared: quote!(#parameter),
        check: copy_check(&parameter.ty),
        binding: TokenStream::new(),
    }
}

fn copy_check(ty: &Type) -> TokenStream {
    quote_spanned! {ty.span()=>
        const _: fn() = ::cuda_std::__kernel_parameter_must_be_copy::<#ty>;
    }
}

/// The type inside parentheses and the invisible group that a macro's `$t:ty` leaves.
fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        other => other,
    }
}

/// Whether the attribute says what symbol the function gets.
fn is_name(attribute: &Attribute) -> bool {
    const NAMES: [&str; 2] = ["export_name", "no_mangle"];
    let is = |path: &syn::Path| NAMES.iter().any(|name| path.is_ident(name));
    if is(attribute.path()) {
        return true;
    }
    let Meta::List(list) = &attribute.meta else {
        return false;
    };
    // `syn` cannot parse the inside as a `Meta` when its value is `concat!(...)` of metavariables.
    list.path.is_ident("unsafe")
        && list
            .tokens
            .clone()
            .into_iter()
            .next()
            .is_some_and(|first| NAMES.iter().any(|name| first.to_string() == *name))
}

/// The attribute that names the entry point: the one that was written, or `no_mangle`.
fn entry_name(mut written: Vec<Attribute>) -> Result<TokenStream> {
    match (written.pop(), written.pop()) {
        (None, _) => Ok(quote!(#[unsafe(no_mangle)])),
        (Some(only), None) => Ok(quote!(#only)),
        (Some(second), Some(_)) => Err(Error::new_spanned(
            second,
            "the kernel's name is given twice: keep one of `export_name` and `no_mangle`",
        )),
    }
}
