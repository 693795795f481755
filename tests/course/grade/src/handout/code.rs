//! Where the items of a Rust file are: its text stays as it is, only the places are looked up.

use anyhow::{Result, anyhow};
use std::ops::Range;
use syn::{ImplItem, Signature, TraitItem, Type, Visibility, spanned::Spanned};

/// An item.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its kind and its name, with the type or module that it is in: `fn Editable::walk`, `impl Entries`, `mod tests`.
    pub name: String,
    /// Its bytes, documentation and attributes included.
    pub range: Range<usize>,
    /// More, if it is a function with a body.
    pub function: Option<Function>,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The line in which its signature begins, from 1.
    pub line: usize,
    /// The bytes between the braces of its body.
    pub body: Range<usize>,
}

/// All items of a file, in its order; those in an `impl`, a trait or a module follow that.
///
/// # Errors
/// It is not Rust; the message begins with the line.
pub fn items(text: &str) -> Result<Vec<Item>> {
    let file = syn::parse_file(text).map_err(|error| anyhow!("{}: {error}", error.span().start().line.max(1)))?;
    let mut found = Found { text, items: Vec::new() };
    file.items.iter().for_each(|item| found.item(item, ""));
    Ok(found.items)
}

struct Found<'a> {
    text: &'a str,
    items: Vec<Item>,
}

impl Found<'_> {
    fn add(&mut self, item: &impl Spanned, name: String) {
        self.items.push(Item { name, range: item.span().byte_range(), function: None });
    }

    fn add_function(
        &mut self,
        item: &impl Spanned,
        name: String,
        (visibility, signature): (Option<&Visibility>, &Signature),
        block: &syn::Block,
    ) {
        let visibility = visibility.filter(|visibility| !matches!(visibility, Visibility::Inherited));
        let start = visibility.map_or_else(|| signature.span(), Spanned::span);
        let braces = block.brace_token.span;
        let body = braces.open().byte_range().end..braces.close().byte_range().start;
        self.add(item, name);
        if let Some(added) = self.items.last_mut() {
            added.function = Some(Function { line: start.start().line, body });
        }
    }

    /// `within` is empty, or ends with `::`.
    fn item(&mut self, item: &syn::Item, within: &str) {
        match item {
            syn::Item::Fn(it) => {
                let name = format!("fn {within}{}", it.sig.ident);
                self.add_function(item, name, (Some(&it.vis), &it.sig), &it.block);
            }
            syn::Item::Impl(it) => self.implementation(it, within),
            syn::Item::Trait(it) => {
                self.add(item, format!("trait {within}{}", it.ident));
                for inner in &it.items {
                    if let TraitItem::Fn(method) = inner
                        && let Some(block) = &method.default
                    {
                        let name = format!("fn {within}{}::{}", it.ident, method.sig.ident);
                        self.add_function(inner, name, (None, &method.sig), block);
                    }
                }
            }
            syn::Item::Mod(it) => {
                self.add(item, format!("mod {within}{}", it.ident));
                let within = format!("{within}{}::", it.ident);
                let inner = it.content.iter().flat_map(|(_, items)| items);
                inner.for_each(|item| self.item(item, &within));
            }
            syn::Item::Const(it) => self.add(item, format!("const {within}{}", it.ident)),
            syn::Item::Static(it) => self.add(item, format!("static {within}{}", it.ident)),
            syn::Item::Struct(it) => self.add(item, format!("struct {within}{}", it.ident)),
            syn::Item::Enum(it) => self.add(item, format!("enum {within}{}", it.ident)),
            syn::Item::Type(it) => self.add(item, format!("type {within}{}", it.ident)),
            syn::Item::Use(it) => {
                let words = it.use_token.span().byte_range().start..it.semi_token.span().byte_range().start;
                self.add(item, self.text[words].to_owned());
            }
            _ => {}
        }
    }

    fn implementation(&mut self, it: &syn::ItemImpl, within: &str) {
        let Some(of) = last_word(&it.self_ty) else { return };
        let word = it.trait_.as_ref().and_then(|(path, _)| path.segments.last());
        let of_trait = word.map_or_else(String::new, |word| format!("{} for ", word.ident));
        self.add(it, format!("impl {of_trait}{within}{of}"));
        for inner in &it.items {
            if let ImplItem::Fn(method) = inner {
                let name = format!("fn {within}{of}::{}", method.sig.ident);
                self.add_function(inner, name, (Some(&method.vis), &method.sig), &method.block);
            }
        }
    }
}

/// The name of a type, without its path and its parameters.
fn last_word(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        _ => None,
    }
}
