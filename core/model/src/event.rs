//! Events: past tense, each with a number that is never given to another.

use crate::{ServiceName, Wall};

/// A field of an event: a name in `lower_snake_case` and its value as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: std::borrow::Cow<'static, str>,
    /// The value.
    pub value: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Wall,
    /// What.
    pub kind: EventKind,
    /// To which service; none if to the server as a whole.
    pub service: Option<ServiceName>,
    /// In a sentence.
    pub text: String,
    /// In parts.
    pub fields: Vec<Field>,
}

impl Event {
    /// An event without fields.
    #[must_use]
    pub fn new(at: Wall, kind: EventKind, service: &ServiceName, text: impl Into<String>) -> Self {
        Self { at, kind, service: Some(service.clone()), text: text.into(), fields: Vec::new() }
    }

    /// An event of the server as a whole, without fields.
    #[must_use]
    pub fn of_server(at: Wall, kind: EventKind, text: impl Into<String>) -> Self {
        Self { at, kind, service: None, text: text.into(), fields: Vec::new() }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.fields.push(Field { name: name.into(), value: value.to_string() });
        self
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $id:literal, $lync:expr;)*) => {
        /// What happened. Numbers and journal ids are fixed for ever; `docs/events.md` lists them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum EventKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl EventKind {
            /// All kinds, in order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its fixed number.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// Its name, as in `GateShut`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Its `MESSAGE_ID` in the journal: 32 hexadecimal digits.
            #[must_use]
            pub const fn message_id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// The event of Lync Server that says the same, if there is one.
            #[must_use]
            pub const fn lync(self) -> Option<u32> {
                match self { $(Self::$name => $lync,)* }
            }
        }
    };
}

events! {
    /// A requester placed a hold.
    HoldPlaced = 101, "e09e93fce8874a26ac62367a8affe0f9", None;
    /// A requester released its hold.
    HoldReleased = 102, "7fe87f02a385416e8e29453426bc1f0b", None;
    /// A hold is about to end.
    HoldEndsSoon = 103, "59a42597810f408005ba506469ee75fa", None;
    /// A hold has come to its end and still stands.
    HoldOverdue = 104, "8d39ad7b6aa4e968f187fd0442993cad", None;
    /// A hold was released by another requester than its own.
    HoldOverridden = 105, "32bbe4dd989f4d509f43d5df50b08b53", None;
    /// The gate was shut: new sessions are refused.
    GateShut = 201, "ccb345b9590c4cf2b06127e179a1aec4", None;
    /// A probe at each door was refused.
    GateProven = 202, "2be906a369884e458dc04e00f264007f", None;
    /// The gate was opened.
    GateOpened = 203, "493ad58eae7a4958994cbe827188be5d", None;
    /// Somebody else removed or changed the gate.
    GateLost = 204, "5e076b43bf684c56b652a323cfee004f", None;
    /// The gate was put back.
    GateRestored = 205, "84aa7dbeadcb4368b7f1f82861d9204f", None;
    /// A connection appeared while the gate should have been shut.
    LeakSeen = 206, "679d3bdfcb994870ba26279d26c0c6e3", None;
    /// The service opened another door, and it was shut too.
    DoorAdded = 207, "d02de542d35e4ce2a48eada826e92d28", None;
    /// A drain began.
    DrainBegan = 301, "70a97ec7efd349cca76748195d006be2", Some(25049);
    /// A service was proven empty.
    Drained = 302, "bfd3ada39d5b4fd9bf4a94d124201c60", Some(25050);
    /// The deadline came with sessions left.
    DeadlineReached = 303, "76b5f623345b42e780a6704d4490c481", None;
    /// Sessions were ended by us.
    SessionsEnded = 304, "16e0472dd0da41f988989046e3e02f05", None;
    /// The operator stopped watching; hold and gate stay.
    Detached = 305, "62896e3a16414a3d88915b2f47203800", None;
    /// The service was stopped by us.
    ServiceStopped = 401, "01aec62b3bad4e97a23711bf17553ed6", Some(25003);
    /// Stopping the service went wrong.
    ServiceStopFailed = 402, "8090c5bf3adf47b3a771f3854a34ac24", None;
    /// The service was started by us.
    ServiceStarted = 403, "8646a316824c441aa331d71196f68d6b", None;
    /// Somebody else ended the service.
    ServiceEndedElsewhere = 404, "5873c0ab4b1c4bf7a56df791a40464ac", None;
    /// Somebody else restarted the service; it is still held.
    ServiceRestartedElsewhere = 405, "0db6dc60e19244d0a36450b57ee9a0e8", None;
    /// The service answered at each door.
    ServiceVerified = 406, "6cfc8705a2434262a7b5432094971e1c", None;
    /// A notice was sent.
    NoticeSent = 501, "becb4e26bded4082a2e672e5b774d466", None;
    /// A notice could not be sent, and was given up.
    NoticeFailed = 502, "49a837a4553b46a190d996ead4553a59", None;
    /// Somebody lifted the protection of sessions from stops and reboots.
    ProtectionLifted = 601, "9b3885a9e0284049addbcc338e0f8e9a", None;
    /// Sessions are protected again.
    ProtectionRestored = 602, "c2ff1ad07b6c4ef4b215d2a5b9731780", None;
    /// A maintenance of the server began.
    MaintenanceBegan = 701, "42f72c9c90864111afbbb873c9c5f01e", None;
    /// All services that a maintenance holds are drained.
    ServerDrained = 702, "6ad49942e73b4d8095b409ebe1c31460", None;
    /// The work of a maintenance began.
    WorkBegan = 703, "1545fa58563245f79ee1ab88a0b4d413", None;
    /// The work of a maintenance ended.
    WorkEnded = 704, "ba8ad0039d71421699e295767f6baf3d", None;
    /// A maintenance waits for somebody.
    MaintenanceHalted = 705, "92cec18c3a4944719544f2d825d00653", None;
    /// A maintenance is over, and the server as it was.
    MaintenanceFinished = 706, "e0f10aa9401540a48fe92b92f56598fb", None;
    /// A check is worse than before the maintenance.
    RegressionSeen = 707, "351e6b1d41184762b9c7391782846b95", None;
    /// A maintenance went on in spite of a guard.
    GuardOverridden = 708, "10419e00d3e840aeaa91601da3abd21b", None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ids_are_unique_and_well_formed() {
        let mut ids: Vec<_> = EventKind::ALL.iter().map(|kind| kind.message_id()).collect();
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), EventKind::ALL.len());
        assert!(EventKind::ALL.is_sorted_by_key(|kind| kind.number()));
    }

    #[test]
    fn the_documentation_and_the_catalog_name_every_event() {
        let (page, catalog) = (include_str!("../../../docs/events.md"), include_str!("../../../packaging/ebb.catalog"));
        for kind in EventKind::ALL {
            let row = format!("| {} | {} |", kind.number(), kind.as_str());
            assert!(page.contains(&row) && page.contains(kind.message_id()), "docs/events.md lacks {row}");
            assert!(catalog.contains(&format!("-- {}\n", kind.message_id())), "the catalog lacks {}", kind.as_str());
        }
    }
}
