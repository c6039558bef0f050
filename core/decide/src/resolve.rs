//! From what an operator typed to the services meant.

use std::collections::BTreeSet;

use ebb_model::{Service, ServiceName, Why};

/// A name and how else it may be written.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// The name.
    pub name: &'a ServiceName,
    /// Others that mean it, unless they mean several.
    pub aliases: Vec<&'a str>,
}

/// All names of `services`, and those of held ones that are not found any more.
#[must_use]
pub fn known<'a>(services: &'a [Service], held: &'a BTreeSet<ServiceName>) -> Vec<Known<'a>> {
    let found = services
        .iter()
        .map(|service| Known { name: &service.name, aliases: service.aliases.iter().map(String::as_str).collect() });
    let gone = held
        .iter()
        .filter(|name| services.iter().all(|service| service.name != **name))
        .map(|name| Known { name, aliases: Vec::new() });
    found.chain(gone).collect()
}

/// The one service that `typed` means: its name, its unit's name, or an alias that only one has.
///
/// # Errors
/// No service, with names that look alike; or several.
pub fn one<'a>(typed: &str, known: &'a [Known<'a>]) -> Result<&'a ServiceName, Why> {
    let plain = typed.strip_suffix(".service").unwrap_or(typed);
    let called = |name: &str| known.iter().find(|known| known.name.as_str() == name);
    if let Some(exact) = called(typed).or_else(|| called(plain)) {
        return Ok(exact.name);
    }
    let fits: Vec<_> = known.iter().filter(|known| known.aliases.contains(&plain)).collect();
    match fits[..] {
        [one] => Ok(one.name),
        [] => Err(Why::NoSuchService { name: typed.to_owned(), alike: alike(plain, known) }),
        _ => Err(Why::Ambiguous {
            name: typed.to_owned(),
            fits: fits.iter().map(|known| known.name.to_string()).collect(),
        }),
    }
}

/// Up to three names that look like `typed`, best first.
fn alike(typed: &str, known: &[Known<'_>]) -> Vec<String> {
    let mut scored: Vec<(usize, &str)> = known
        .iter()
        .filter_map(|known| {
            let name = known.name.as_str();
            let score =
                std::iter::once(name).chain(known.aliases.iter().copied()).map(|name| distance(typed, name)).min()?;
            let near = score <= 1 + typed.chars().count() / 4;
            let within = typed.len() >= 3 && (name.contains(typed) || typed.contains(name));
            (near || within).then_some((score, name))
        })
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// The one of `names` that `typed` is most probably a slip for.
#[must_use]
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &'a str| (distance(typed, name), name);
    let (score, name) = names.into_iter().map(near).min()?;
    (score <= 1 + typed.chars().count() / 4).then_some(name)
}

/// Edits between two words: insert, delete, replace, or swap of neighbours, each one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(from != to)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<ServiceName> {
        names.iter().map(|name| ServiceName::new(*name).unwrap()).collect()
    }

    fn known(names: &[ServiceName]) -> Vec<Known<'_>> {
        names
            .iter()
            .map(|name| Known {
                name,
                aliases: name.as_str().split('@').take(1).filter(|a| *a != name.as_str()).collect(),
            })
            .collect()
    }

    #[test]
    fn a_unit_name_and_a_lone_instance_are_understood() {
        let names = names(&["nginx", "postgresql@15-main", "ssh"]);
        let known = known(&names);
        assert_eq!(one("nginx.service", &known).unwrap().as_str(), "nginx");
        assert_eq!(one("postgresql", &known).unwrap().as_str(), "postgresql@15-main");
    }

    #[test]
    fn several_instances_are_ambiguous() {
        let names = names(&["postgresql@14-main", "postgresql@15-main"]);
        assert!(matches!(one("postgresql", &known(&names)), Err(Why::Ambiguous { fits, .. }) if fits.len() == 2));
    }

    #[test]
    fn a_slip_of_the_keys_gets_a_hint() {
        let names = names(&["nginx", "haproxy", "ssh", "python3:7000"]);
        for (typed, meant) in [("ngnix", "nginx"), ("haprxy", "haproxy"), ("sshd", "ssh"), ("python3", "python3:7000")]
        {
            assert_eq!(
                one(typed, &known(&names)),
                Err(Why::NoSuchService { name: typed.into(), alike: vec![meant.into()] })
            );
        }
        assert_eq!(nearest("unit", ["quic", "units", "udp"]), Some("units"));
        assert_eq!(nearest("xyzzy", ["quic", "units", "udp"]), None);
        assert!(matches!(one("xyzzy", &known(&names)), Err(Why::NoSuchService { alike, .. }) if alike.is_empty()));
    }
}
