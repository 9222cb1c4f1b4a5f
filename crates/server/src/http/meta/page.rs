//! Small pages for people: the Markdown that our own pages use (headings, paragraphs, lists, code, emphasis, links
//! within this server), escaped, in one file without anything to fetch.

use axum::response::Response;
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};

use crate::http::extract::bytes_as;

/// Nothing is fetched, run, framed or sent; the page's own style is all there is.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "body{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}code{background:#f0f0f0;padding:.1em .3em;border-radius:3px}pre{background:#f0f0f0;\
padding:1rem;overflow-x:auto}a{color:#0645ad}@media(prefers-color-scheme:dark){body{color:#ddd;background:#16181c}\
code,pre{background:#26292f}a{color:#7ab0ff}}";

/// A page with a title and a body that is HTML already.
pub(super) fn html(title: &str, body: &str) -> Response {
    let title = escaped(title);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head>\n\
         <body>\n{body}</body></html>\n"
    );
    let media_type = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = bytes_as(StatusCode::OK, media_type, page.into());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Markdown as HTML.
pub(super) fn rendered(markdown: &str) -> String {
    let mut html = String::with_capacity(markdown.len() * 2);
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        let item = |line: &str| line.starts_with("- ") || line.starts_with("  ");
        if line.starts_with("```") {
            let code: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            html.push_str(&format!("<pre>{}</pre>\n", escaped(&code.join("\n"))));
        } else if line.starts_with('#') {
            let level = line.bytes().take_while(|byte| *byte == b'#').count().min(6);
            html.push_str(&format!("<h{level}>{}</h{level}>\n", inline(line.trim_start_matches('#').trim())));
        } else if let Some(first) = line.strip_prefix("- ") {
            let mut items = vec![first.to_owned()];
            while let Some(line) = lines.next_if(|line| item(line)) {
                match (line.strip_prefix("- "), items.last_mut()) {
                    (None, Some(open)) => {
                        open.push(' ');
                        open.push_str(line.trim());
                    }
                    (Some(next), _) => items.push(next.to_owned()),
                    (None, None) => {}
                }
            }
            let items: String = items.iter().map(|text| format!("<li>{}</li>\n", inline(text))).collect();
            html.push_str(&format!("<ul>\n{items}</ul>\n"));
        } else if !line.trim().is_empty() {
            let mut text = line.to_owned();
            while let Some(line) = lines.next_if(|line| !line.trim().is_empty() && !line.starts_with("- ")) {
                text.push('\n');
                text.push_str(line);
            }
            html.push_str(&format!("<p>{}</p>\n", inline(&text)));
        }
    }
    html
}

/// Code, emphasis and links inside a line. What is not closed stays as it was written.
fn inline(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        html.push_str(&escaped(&rest[..at]));
        let from = &rest[at..];
        let (piece, length) = code(from).or_else(|| strong(from)).or_else(|| link(from)).unwrap_or_else(|| {
            let mark = &from[..1];
            (escaped(mark), mark.len())
        });
        html.push_str(&piece);
        rest = &from[length..];
    }
    html.push_str(&escaped(rest));
    html
}

fn code(from: &str) -> Option<(String, usize)> {
    let (inside, _) = from.strip_prefix('`')?.split_once('`')?;
    Some((format!("<code>{}</code>", escaped(inside)), inside.len() + 2))
}

fn strong(from: &str) -> Option<(String, usize)> {
    let (inside, _) = from.strip_prefix("**")?.split_once("**")?;
    Some((format!("<strong>{}</strong>", inline(inside)), inside.len() + 4))
}

/// Links within this server only.
fn link(from: &str) -> Option<(String, usize)> {
    let (text, behind) = from.strip_prefix('[')?.split_once("](")?;
    let (target, _) = behind.split_once(')')?;
    let page = target.strip_suffix(".md").filter(|name| !name.contains(['/', ':']));
    let href = match page {
        Some(name) => format!("/problems/{name}"),
        None if target.starts_with('/') && !target.starts_with("//") => target.to_owned(),
        None => return None,
    };
    Some((format!("<a href=\"{}\">{}</a>", escaped(&href), escaped(text)), text.len() + target.len() + 4))
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use freehold_api::Code;

    use super::*;

    #[test]
    fn what_our_pages_use_is_rendered_and_everything_else_escaped() {
        assert_eq!(rendered("# a <b>\n"), "<h1>a &lt;b&gt;</h1>\n");
        assert_eq!(rendered("one\ntwo\n\nthree"), "<p>one\ntwo</p>\n<p>three</p>\n");
        assert_eq!(rendered("- a\n  b\n- `c<d`"), "<ul>\n<li>a b</li>\n<li><code>c&lt;d</code></li>\n</ul>\n");
        assert_eq!(rendered("```sh\nx < y\n```"), "<pre>x &lt; y</pre>\n");
        assert_eq!(rendered("**so `it` is** * ` ["), "<p><strong>so <code>it</code> is</strong> * ` [</p>\n");
        assert_eq!(rendered("[x](gone.md)"), "<p><a href=\"/problems/gone\">x</a></p>\n");
        for elsewhere in ["[x](javascript:alert)", "[x](//evil/)", "[x](https://evil/)"] {
            assert!(!rendered(elsewhere).contains("<a"), "{elsewhere}");
        }
    }

    #[test]
    fn every_page_is_rendered_whole() {
        for code in Code::ALL {
            let html = rendered(code.page());
            assert!(html.starts_with(&format!("<h1>{code}</h1>")), "{html}");
            assert!(html.contains("<strong>What to do.</strong>"), "{code}");
            assert!(!html.contains("**") && !html.contains('`'), "{code} has marks left over: {html}");
        }
    }
}
