//! Functions of at most 70 lines, files of at most 800, without tests; or `// long: why` in front.

use crate::report::Violation;
use crate::source::{Source, Token, TokenKind, at_depth_zero};

/// Lines of a function, from `fn` to its closing bracket.
const FUNCTION: usize = 70;
/// Lines of a file without its tests.
const FILE: usize = 800;

/// Checks all sources.
pub fn check(sources: &[Source]) -> Vec<Violation> {
    sources.iter().flat_map(|source| file(source).into_iter().chain(functions(source))).collect()
}

fn file(source: &Source) -> Option<Violation> {
    let lines = source.lines_without_tests();
    let excused = source.tokens.first().is_some_and(says_why);
    (lines > FILE && !excused).then(|| Violation {
        file: source.path.clone(),
        line: 1,
        what: format!(
            "{lines} lines without tests, more than {FILE}: split it, or say `// long: why` in the first line"
        ),
    })
}

fn functions(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (at, token) in source.shipped() {
        let name = source.tokens.get(at + 1).filter(|name| name.kind == TokenKind::Ident);
        let (true, Some(name)) = (token.is_ident("fn"), name) else { continue };
        let Some(last) = last_line(source, at) else { continue };
        let lines = last + 1 - token.line;
        if lines > FUNCTION && !excused(source, at) {
            violations.push(Violation {
                file: source.path.clone(),
                line: token.line,
                what: format!(
                    "`{}` has {lines} lines, more than {FUNCTION}: split it, or say `// long: why` above it",
                    name.text
                ),
            });
        }
    }
    violations
}

fn last_line(source: &Source, function: usize) -> Option<usize> {
    let ends = |token: &Token| token.is_sign("{") || token.is_sign(";");
    let body = at_depth_zero(&source.tokens, function, ends).filter(|at| source.tokens[*at].is_sign("{"))?;
    Some(source.tokens[source.closing(body)?].line)
}

/// Whether the excuse stands above the function: between it and the end of whatever comes before.
fn excused(source: &Source, function: usize) -> bool {
    let before = source.tokens[..function].iter().rev();
    let mut head = before.take_while(|token| !["}", "{", ";"].iter().any(|end| token.is_sign(end)));
    head.any(says_why)
}

fn says_why(token: &Token) -> bool {
    let why = token.text.trim().strip_prefix("long:");
    token.kind == TokenKind::Comment && why.is_some_and(|why| !why.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(&[Source::new("core/x/src/y.rs", text, false)]).iter().map(ToString::to_string).collect()
    }

    fn function(lines: usize) -> String {
        format!("fn f(a: [u8; 3]) -> u8 {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_function_is_found() {
        assert!(found(&function(70)).is_empty());
        let what = "`f` has 71 lines, more than 70: split it, or say `// long: why` above it";
        assert_eq!(found(&format!("\n{}", function(71))), [format!("core/x/src/y.rs:2: {what}")]);
        assert!(found(&format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(71))).is_empty());
    }

    #[test]
    fn an_excuse_needs_a_reason_and_is_for_one_function() {
        let long = function(71);
        assert!(found(&format!("// long: a table\n{long}")).is_empty());
        assert!(found(&format!("/// What.\n// long: a table\n#[must_use]\npub {long}")).is_empty());
        assert_eq!(found(&format!("// long:\n{long}")).len(), 1);
        assert_eq!(found(&format!("// long: a table\nfn g() {{}}\n{long}")).len(), 1);
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(found(&"const A: u8 = 1;\n".repeat(800)).is_empty());
        assert_eq!(found(&"const A: u8 = 1;\n".repeat(801)).len(), 1);
        assert!(found(&format!("// long: a table\n{}", "const A: u8 = 1;\n".repeat(801))).is_empty());
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(801));
        assert!(found(&tests).is_empty());
    }
}
