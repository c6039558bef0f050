//! What is to be changed of one name, from what is there now. The member's records are known by the member; whatever else
//! is there is somebody else's, and stays.

use domain::base::name::ToName;

use super::value::{self, DnsName, Kind, Value};
use super::wire::{Change, Set};
use super::{NameWas, Named};
use crate::error::short;
use crate::{Error, Wish};

/// One name.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) name: DnsName,
    pub(super) kind: Kind,
    member: Member,
    behind: Option<u16>,
    pub(super) ttl: u32,
    /// What the member had.
    pub(super) had: Vec<Value>,
    /// What is there only while it is away.
    pub(super) instead: Vec<Value>,
}

/// How its records are known.
#[derive(Clone, Debug)]
enum Member {
    At(Value),
    Named(DnsName),
}

fn member(kind: Kind, text: &str) -> Result<Member, Error> {
    Ok(match kind {
        Kind::A | Kind::Aaaa => Member::At(Value::read(kind, text)?),
        Kind::Srv => Member::Named(value::name(text, "a member")?),
    })
}

fn values(kind: Kind, texts: &[String]) -> Result<Vec<Value>, Error> {
    texts.iter().map(|text| Value::read(kind, text)).collect()
}

impl Aim {
    /// As it is asked for.
    pub(super) fn of(named: &Named) -> Result<Self, Error> {
        let kind = named.kind;
        let wrong = |what: &str, help: &str| {
            Err(Error::Settings { what: format!("{} {kind}: {what}", short(&named.name)), help: help.to_owned() })
        };
        if named.behind.is_some() && kind != Kind::Srv {
            return wrong("an address has no priority", "leave `behind` out");
        }
        if named.behind.is_some() && !named.instead.is_empty() {
            return wrong("the member is kept, and something is there instead", "choose one of both");
        }
        let aim = Self {
            name: value::name(&named.name, "a name")?,
            kind,
            member: member(kind, &named.member)?,
            behind: named.behind,
            ttl: 0,
            had: Vec::new(),
            instead: values(kind, &named.instead)?,
        };
        if aim.instead.iter().any(|value| aim.is_members(value)) {
            return wrong("what is there instead is the member itself", "name another member");
        }
        Ok(aim)
    }

    /// As it was written down.
    pub(super) fn from_was(was: &NameWas) -> Result<Self, Error> {
        Ok(Self {
            name: value::name(&was.name, "a name")?,
            kind: was.kind,
            member: member(was.kind, &was.member)?,
            behind: was.behind,
            ttl: was.ttl,
            had: values(was.kind, &was.had)?,
            instead: values(was.kind, &was.instead)?,
        })
    }

    /// Takes up what is there now as what was before.
    pub(super) fn learn(&mut self, set: &Set) {
        self.ttl = set.ttl;
        self.had = set.values.iter().filter(|value| self.is_members(value)).cloned().collect();
        // What is there already is not ours to take away afterwards.
        self.instead.retain(|value| !set.values.contains(value));
    }

    /// For the record.
    pub(super) fn was(&self, named: &Named) -> NameWas {
        let texts = |values: &[Value]| values.iter().map(ToString::to_string).collect();
        NameWas {
            name: self.name.to_string(),
            kind: self.kind,
            member: named.member.clone(),
            behind: self.behind,
            ttl: self.ttl,
            had: texts(&self.had),
            instead: texts(&self.instead),
        }
    }

    fn is_members(&self, value: &Value) -> bool {
        match (&self.member, value) {
            (Member::At(member), value) => member == value,
            (Member::Named(member), Value::Srv { target, .. }) => member.name_eq(target),
            (Member::Named(_), _) => false,
        }
    }

    /// What is neither the member's nor there in its stead.
    pub(super) fn others(&self, values: &[Value]) -> Vec<Value> {
        let other = |value: &&Value| !self.is_members(value) && !self.instead.contains(value);
        values.iter().filter(other).cloned().collect()
    }

    /// Whether a wish can be done at all: an address has no weight.
    pub(super) fn can(&self, wish: Wish, at: &str) -> Result<(), Error> {
        if self.kind == Kind::Srv || !matches!(wish, Wish::Share(share) if share < 100) {
            return Ok(());
        }
        let why = format!("{} {}: an address has no weight; bring it back whole", self.name, self.kind);
        Err(Error::Cannot { at: at.to_owned(), why })
    }

    fn wanted(&self, wish: Wish) -> Vec<Value> {
        let each = |change: &dyn Fn(&mut u16, &mut u16)| {
            let mut had = self.had.clone();
            for value in &mut had {
                if let Value::Srv { priority, weight, .. } = value {
                    change(priority, weight);
                }
            }
            had
        };
        match (wish, self.behind) {
            (Wish::Away, Some(behind)) => each(&|priority, _| *priority = behind),
            (Wish::Away, None) => self.instead.clone(),
            (Wish::Share(share), _) => each(&|_, weight| {
                *weight = u16::try_from(Wish::of(share, u32::from(*weight))).unwrap_or(*weight);
            }),
            (Wish::Back, _) => self.had.clone(),
        }
    }

    /// What to change; none if it is as wished.
    pub(super) fn change(&self, set: &Set, wish: Wish) -> Option<Change> {
        let mut target = self.others(&set.values);
        for value in self.wanted(wish) {
            if !target.contains(&value) {
                target.push(value);
            }
        }
        let without = |some: &[Value], others: &[Value]| -> Vec<Value> {
            some.iter().filter(|value| !others.contains(value)).cloned().collect()
        };
        let (take, add) = (without(&set.values, &target), without(&target, &set.values));
        let ttl = if set.values.is_empty() { self.ttl } else { set.ttl };
        let (name, kind, was) = (self.name.clone(), self.kind, set.values.clone());
        (!take.is_empty() || !add.is_empty()).then_some(Change { name, kind, was, take, add, ttl })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(kind: Kind, member: &str) -> Named {
        let name = "pool.x.test".to_owned();
        Named { name, kind, member: member.to_owned(), instead: Vec::new(), behind: None }
    }

    fn set(kind: Kind, texts: &[&str]) -> Set {
        Set { ttl: 60, values: texts.iter().map(|text| Value::read(kind, text).unwrap()).collect() }
    }

    fn shown(values: &[Value]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    /// The set after a change.
    fn after(aim: &Aim, set: &Set, wish: Wish) -> Set {
        let Some(change) = aim.change(set, wish) else { return set.clone() };
        assert_eq!(change.was, set.values);
        let mut values: Vec<_> = set.values.iter().filter(|value| !change.take.contains(value)).cloned().collect();
        values.extend(change.add);
        Set { ttl: change.ttl, values }
    }

    #[test]
    fn an_address_goes_and_comes_back_and_what_came_between_stays() {
        let mut aim = Aim::of(&named(Kind::A, "192.0.2.1")).unwrap();
        let before = set(Kind::A, &["192.0.2.1", "192.0.2.2"]);
        aim.learn(&before);
        let away = after(&aim, &before, Wish::Away);
        assert_eq!(shown(&away.values), ["192.0.2.2"]);
        assert!(aim.change(&away, Wish::Away).is_none(), "applied twice");
        let other = set(Kind::A, &["192.0.2.2", "192.0.2.3"]);
        assert_eq!(shown(&after(&aim, &other, Wish::Back).values), ["192.0.2.2", "192.0.2.3", "192.0.2.1"]);
        assert!(aim.can(Wish::Share(10), "x").is_err() && aim.can(Wish::Share(100), "x").is_ok());
    }

    #[test]
    fn a_name_of_its_own_has_another_instead() {
        let asked = Named { instead: vec!["192.0.2.2".to_owned()], ..named(Kind::A, "192.0.2.1") };
        let (mut aim, before) = (Aim::of(&asked).unwrap(), set(Kind::A, &["192.0.2.1"]));
        aim.learn(&before);
        let aim = Aim::from_was(&aim.was(&asked)).unwrap();
        let away = after(&aim, &before, Wish::Away);
        assert_eq!((shown(&away.values), away.ttl), (vec!["192.0.2.2".to_owned()], 60));
        assert_eq!(after(&aim, &away, Wish::Back), before);
        assert!(Aim::of(&Named { instead: vec!["192.0.2.1".to_owned()], ..asked }).is_err());
    }

    #[test]
    fn what_was_there_already_is_not_taken_away_on_the_way_back() {
        let asked = Named { instead: vec!["192.0.2.2".to_owned()], ..named(Kind::A, "192.0.2.1") };
        let (mut aim, before) = (Aim::of(&asked).unwrap(), set(Kind::A, &["192.0.2.1", "192.0.2.2"]));
        aim.learn(&before);
        let back = after(&aim, &after(&aim, &before, Wish::Away), Wish::Back);
        assert_eq!(shown(&back.values), ["192.0.2.2", "192.0.2.1"]);
    }

    #[test]
    fn srv_is_put_behind_or_taken_away_and_comes_back_by_weight() {
        let texts = ["10 50 5222 M1.x.test.", "10 50 5222 m2.x.test."];
        let before = set(Kind::Srv, &texts);
        let mut aim = Aim::of(&Named { behind: Some(90), ..named(Kind::Srv, "m1.x.test") }).unwrap();
        aim.learn(&before);
        let away = after(&aim, &before, Wish::Away);
        assert_eq!(shown(&away.values), ["10 50 5222 m2.x.test.", "90 50 5222 M1.x.test."]);
        let part = after(&aim, &away, Wish::Share(10));
        assert_eq!(shown(&part.values), ["10 50 5222 m2.x.test.", "10 5 5222 M1.x.test."]);
        assert_eq!(shown(&after(&aim, &part, Wish::Back).values), [texts[1], texts[0]]);
        assert!(Aim::of(&Named { behind: Some(9), ..named(Kind::A, "192.0.2.1") }).is_err());
    }

    proptest! {
        /// Whatever others do meanwhile: theirs stays, and the member's is what it was.
        #[test]
        fn the_way_back_leads_back(had in 0_u8..4, more in prop::collection::vec(4_u8..9, 0..4), share in 1_u8..=100) {
            let srv = |number: u8| format!("10 {} 5222 m{number}.x.test.", u16::from(number) * 7);
            let texts: Vec<_> = (0..=had).map(srv).collect();
            let before = set(Kind::Srv, &texts.iter().map(String::as_str).collect::<Vec<_>>());
            let mut aim = Aim::of(&named(Kind::Srv, "m0.x.test")).unwrap();
            aim.learn(&before);
            let mut now = after(&aim, &before, Wish::Away);
            for number in more {
                let other = Value::read(Kind::Srv, &srv(number)).unwrap();
                if !now.values.contains(&other) { now.values.push(other); }
            }
            let others = now.values.clone();
            now = after(&aim, &after(&aim, &now, Wish::Share(share)), Wish::Back);
            prop_assert!(aim.change(&now, Wish::Back).is_none());
            prop_assert!(others.iter().all(|other| now.values.contains(other)));
            prop_assert!(now.values.len() == others.len() + 1 && now.values.contains(&before.values[0]));
        }
    }
}
