//! Messages of the DNS over TCP: a question, an update with its prerequisites, and what comes back. Signed where there is a
//! key, and then the answer must be signed too.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message_builder::{AdditionalBuilder, PushError, RecordSectionBuilder};
use domain::base::name::ToName;
use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, MessageBuilder, Rtype, Serial, Ttl};
use domain::rdata::tsig::Time48;
use domain::rdata::{A, Aaaa, Cname, Ns, Soa, Srv};
use domain::tsig::{ClientTransaction, Key, ValidationError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::value::{DnsName, Kind, Value};
use crate::error::short;
use crate::{Error, Until, stream};

/// A server, and the key by which we are known there.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// `HOST:PORT`.
    pub(super) at: String,
    pub(super) key: Option<Arc<Key>>,
}

/// All records of a name and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// Seconds; the largest there is.
    pub(super) ttl: u32,
    pub(super) values: Vec<Value>,
}

/// What to change of one name and kind: only if it is exactly what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) name: DnsName,
    pub(super) kind: Kind,
    pub(super) was: Vec<Value>,
    pub(super) take: Vec<Value>,
    pub(super) add: Vec<Value>,
    pub(super) ttl: u32,
}

type Reply = Message<Vec<u8>>;

impl Peer {
    fn not_understood(&self, what: &dyn std::fmt::Display) -> Error {
        Error::NotUnderstood { at: self.at.clone(), what: short(&what.to_string()) }
    }

    /// The zone's serial.
    pub(super) async fn serial(&self, zone: &DnsName, until: Until) -> Result<Serial, Error> {
        let reply = self.ask(zone, Rtype::SOA, until).await?;
        let answer = reply.answer().map_err(|error| self.not_understood(&error))?;
        for record in answer.limit_to_in::<Soa<_>>() {
            let record = record.map_err(|error| self.not_understood(&error))?;
            if record.owner().name_eq(zone) {
                return Ok(record.data().serial());
            }
        }
        Err(Error::Missing {
            at: self.at.clone(),
            what: format!("zone {zone}"),
            help: "name the zone as the server has it, and its primary".to_owned(),
        })
    }

    /// The names of the zone's servers.
    pub(super) async fn servers(&self, zone: &DnsName, until: Until) -> Result<Vec<DnsName>, Error> {
        let reply = self.ask(zone, Rtype::NS, until).await?;
        let answer = reply.answer().map_err(|error| self.not_understood(&error))?;
        let mut names = Vec::new();
        for record in answer.limit_to_in::<Ns<_>>() {
            let record = record.map_err(|error| self.not_understood(&error))?;
            names.push(record.data().nsdname().to_name());
        }
        Ok(names)
    }

    /// The records of a name; none where there is no such name.
    pub(super) async fn set(&self, name: &DnsName, kind: Kind, until: Until) -> Result<Set, Error> {
        let reply = self.ask(name, kind.rtype(), until).await?;
        let answer = reply.answer().map_err(|error| self.not_understood(&error))?;
        let mut set = Set::default();
        for record in answer.limit_to_in::<Cname<_>>() {
            let record = record.map_err(|error| self.not_understood(&error))?;
            if record.owner().name_eq(name) {
                let why = format!("{name} is another name for {} (CNAME): steer that one", record.data().cname());
                return Err(Error::Cannot { at: self.at.clone(), why });
            }
        }
        let mut push = |ttl: Ttl, value| {
            set.ttl = set.ttl.max(ttl.as_secs());
            if !set.values.contains(&value) {
                set.values.push(value);
            }
        };
        for record in answer {
            let record = record.map_err(|error| self.not_understood(&error))?;
            if !record.owner().name_eq(name) || record.class() != Class::IN || record.rtype() != kind.rtype() {
                continue;
            }
            let unread = |error: domain::base::wire::ParseError| self.not_understood(&error);
            let value = match kind {
                Kind::A => record.to_record::<A>().map_err(unread)?.map(|record| Value::A(record.data().addr())),
                Kind::Aaaa => {
                    record.to_record::<Aaaa>().map_err(unread)?.map(|record| Value::Aaaa(record.data().addr()))
                }
                Kind::Srv => record.to_record::<Srv<_>>().map_err(unread)?.map(|record| {
                    let srv = record.data();
                    let target = srv.target().to_name();
                    Value::Srv { priority: srv.priority(), weight: srv.weight(), port: srv.port(), target }
                }),
            };
            push(record.ttl(), value.ok_or_else(|| self.not_understood(&"a record of another kind"))?);
        }
        Ok(set)
    }

    /// All changes or none: they are made only if each set is exactly what it was.
    pub(super) async fn update(&self, zone: &DnsName, changes: &[Change], until: Until) -> Result<(), Error> {
        let message = update(zone, changes).map_err(|error| self.not_understood(&error))?;
        let reply = self.exchange(message, Opcode::UPDATE, until).await?;
        match reply.header().rcode() {
            Rcode::NOERROR => Ok(()),
            code => Err(self.refusal(code, zone, changes)),
        }
    }

    /// A question to one who knows by himself; an answer at second hand is none.
    async fn ask(&self, name: &DnsName, kind: Rtype, until: Until) -> Result<Reply, Error> {
        let mut question = start(Opcode::QUERY).question();
        question.push((name, kind)).map_err(|error| self.not_understood(&error))?;
        let reply = self.exchange(question.additional(), Opcode::QUERY, until).await?;
        match reply.header().rcode() {
            Rcode::NOERROR | Rcode::NXDOMAIN => {}
            code => return Err(self.refusal(code, name, &[])),
        }
        let asked = reply.sole_question().map_err(|error| self.not_understood(&error))?;
        if !asked.qname().name_eq(name) || asked.qtype() != kind {
            return Err(self.not_understood(&"an answer to another question"));
        }
        if !reply.header().aa() {
            let what = format!("it has no authority over {name}");
            let help = "name a server of the zone itself".to_owned();
            return Err(Error::Refused { at: self.at.clone(), what, help });
        }
        Ok(reply)
    }

    async fn exchange(
        &self,
        mut message: AdditionalBuilder<Vec<u8>>,
        opcode: Opcode,
        until: Until,
    ) -> Result<Reply, Error> {
        let id = message.header().id();
        let signed = match &self.key {
            Some(key) => {
                let signed = ClientTransaction::request(key.clone(), &mut message, Time48::now());
                Some(signed.map_err(|error| self.not_understood(&error))?)
            }
            None => None,
        };
        let answer = until.wait(&self.at, self.talk(message.finish())).await?;
        let mut reply = Message::from_octets(answer).map_err(|error| self.not_understood(&error))?;
        let header = reply.header();
        if !header.qr() || header.id() != id || header.opcode() != opcode {
            return Err(self.not_understood(&"an answer to something else"));
        }
        if header.tc() {
            return Err(self.not_understood(&"it is cut short"));
        }
        if let Some(signed) = signed {
            let checked = signed.answer(&mut reply, Time48::now());
            // A refusal need not be signed; nothing is done on its word.
            let refused = reply.header().rcode() != Rcode::NOERROR;
            match checked {
                Err(ValidationError::ServerUnsigned) if refused => {}
                checked => checked.map_err(|error| self.distrust(error, signed.key()))?,
            }
        }
        Ok(reply)
    }

    async fn talk(&self, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        let failed = |error: std::io::Error| stream::not_reached(&self.at, &error);
        let mut stream = stream::connect(&self.at).await?;
        let length = u16::try_from(message.len()).map_err(|_| self.not_understood(&"too much for one message"))?;
        stream.write_all(&[&length.to_be_bytes(), message.as_slice()].concat()).await.map_err(failed)?;
        let length = stream.read_u16().await.map_err(failed)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(failed)?;
        Ok(answer)
    }

    /// What a signature that is not right means.
    fn distrust(&self, error: ValidationError, key: &Key) -> Error {
        let (at, name) = (self.at.clone(), key.name());
        match error {
            ValidationError::ServerBadKey => Error::NotPermitted {
                at,
                what: format!("it does not know the key {name} (BADKEY)"),
                help: format!("name and algorithm ({}) must be the same there", key.algorithm()),
            },
            ValidationError::ServerBadSig | ValidationError::BadSig => Error::NotPermitted {
                at,
                what: format!("the key {name} has another secret there (BADSIG)"),
                help: "copy the key file anew".to_owned(),
            },
            ValidationError::ServerBadTime { client, server } => {
                let ahead = u64::from(server).abs_diff(u64::from(client));
                let what = format!("its clock and ours are {ahead} s apart (BADTIME)");
                Error::NotPermitted { at, what, help: "set both clocks: 300 s are allowed".to_owned() }
            }
            other => self.not_understood(&format!("its signature: {other}")),
        }
    }

    /// What a refusal means.
    fn refusal(&self, code: Rcode, what: &DnsName, changes: &[Change]) -> Error {
        let at = self.at.clone();
        match code {
            Rcode::NXRRSET | Rcode::YXRRSET | Rcode::NXDOMAIN | Rcode::YXDOMAIN => {
                let names: Vec<_> = changes.iter().map(|change| format!("{} {}", change.name, change.kind)).collect();
                Error::Changed { at, what: names.join(", "), found: format!("it is no longer what it was ({code})") }
            }
            Rcode::NOTAUTH => Error::Refused {
                at,
                what: format!("it is not the primary of {what} (NOTAUTH)"),
                help: "name the zone's primary".to_owned(),
            },
            Rcode::REFUSED => Error::NotPermitted {
                at,
                what: format!("{what}: REFUSED"),
                help: "allow the key there: update-policy { grant KEY zonesub A AAAA SRV; }; or the zone is frozen: \
                       rndc thaw"
                    .to_owned(),
            },
            Rcode::NOTZONE => Error::Settings {
                what: format!("a name is not in the zone {what} (NOTZONE)"),
                help: "name the zone that has it".to_owned(),
            },
            other => Error::Refused { at, what: format!("{what}: {other}"), help: "its log says why".to_owned() },
        }
    }
}

/// A message with an id of its own.
fn start(opcode: Opcode) -> MessageBuilder<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    let id = RandomState::new().build_hasher().finish();
    builder.header_mut().set_id((id & 0xffff) as u16);
    builder.header_mut().set_opcode(opcode);
    builder
}

/// RFC 2136: the zone, what must be so (2.4.2 and 2.4.3), what is to be changed (2.5.1 and 2.5.4).
fn update(zone: &DnsName, changes: &[Change]) -> Result<AdditionalBuilder<Vec<u8>>, PushError> {
    let mut message = start(Opcode::UPDATE).question();
    message.push((zone, Rtype::SOA, Class::IN))?;
    let mut message = message.answer();
    for change in changes {
        for value in &change.was {
            push(&mut message, change, value, Class::IN, 0)?;
        }
        if change.was.is_empty() {
            let nothing = UnknownRecordData::from_octets(change.kind.rtype(), [0_u8; 0]);
            if let Ok(nothing) = nothing {
                message.push((&change.name, Class::NONE, 0, nothing))?;
            }
        }
    }
    let mut message = message.authority();
    for change in changes {
        for value in &change.take {
            push(&mut message, change, value, Class::NONE, 0)?;
        }
        for value in &change.add {
            push(&mut message, change, value, Class::IN, change.ttl)?;
        }
    }
    Ok(message.additional())
}

fn push(
    message: &mut impl RecordSectionBuilder<Vec<u8>>,
    change: &Change,
    value: &Value,
    class: Class,
    ttl: u32,
) -> Result<(), PushError> {
    let name = &change.name;
    match value {
        Value::A(address) => message.push((name, class, ttl, A::new(*address))),
        Value::Aaaa(address) => message.push((name, class, ttl, Aaaa::new(*address))),
        Value::Srv { priority, weight, port, target } => {
            message.push((name, class, ttl, Srv::new(*priority, *weight, *port, target)))
        }
    }
}

#[cfg(test)]
mod tests;
