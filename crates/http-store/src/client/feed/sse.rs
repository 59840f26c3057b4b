//! Reads a stream of events (`text/event-stream` of the HTML standard).

/// The most bytes of one event, which names a client once.
const MAX_EVENT: usize = 1024 * 1024;

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; empty if it has none.
    pub(super) name: String,
    pub(super) data: String,
    /// The id of this event, or of the last one before it that has one.
    pub(super) id: String,
}

/// The error of an event that is too long or no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A reader of events that arrive in pieces. A line ends with LF or CR LF.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    /// The part of a line that has arrived.
    line: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl EventReader {
    /// Reads a piece of the stream, and adds the events that it completes.
    pub(super) fn read(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), Unreadable> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.event.data.len() > MAX_EVENT {
                return Err(Unreadable);
            }
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                self.line.pop_if(|last| *last == b'\r');
                let line = String::from_utf8(std::mem::take(&mut self.line)).map_err(|_| Unreadable)?;
                events.extend(self.take_line(&line));
            }
        }
        Ok(())
    }

    /// Takes a whole line, and returns the event that an empty one ends.
    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let id = self.event.id.clone();
            let event = std::mem::replace(&mut self.event, Event { id, ..Event::default() });
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "id" => value.clone_into(&mut self.event.id),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            // Comments, and what is not known.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: id.to_owned() }
    }

    const STREAM: &str = ": hello\n\nevent: hb\nid: e-1\ndata: {}\n\nid:e-2\r\nevent:change\r\ndata:a\r\ndata\r\ndata:  b\r\n\r\n\
                          retry: 5\nnonsense\n\ndata: last\n\ndata: not whole\n";

    #[test]
    fn events_are_read_however_they_are_cut() {
        let expected = [event("hb", "{}", "e-1"), event("change", "a\n\n b", "e-2"), event("", "last", "e-2")];
        for length in 1..STREAM.len() {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for piece in STREAM.as_bytes().chunks(length) {
                assert_eq!(reader.read(piece, &mut events), Ok(()));
            }
            assert_eq!(events, expected, "in pieces of {length}");
        }
    }

    #[test]
    fn events_without_an_end_are_given_up() {
        let piece = [b'x'; 64 * 1024];
        for beginning in ["", "data: "] {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            assert_eq!(reader.read(beginning.as_bytes(), &mut events), Ok(()));
            let read = (0..17).map(|_| reader.read(&piece, &mut events)).find(Result::is_err);
            assert_eq!(read, Some(Err(Unreadable)), "of one line");
        }
        let mut reader = EventReader::default();
        let lines = "data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n".repeat(100);
        let read = (0..200).map(|_| reader.read(lines.as_bytes(), &mut Vec::new())).find(Result::is_err);
        assert_eq!(read, Some(Err(Unreadable)), "of many");
        assert_eq!(EventReader::default().read(b"data: \xff\n", &mut Vec::new()), Err(Unreadable));
    }
}
