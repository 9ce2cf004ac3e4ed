"""Bytes to messages and back, without I/O.

    messages   what coordinator, supervisor and slot say to each other
    far        what is said besides where a worker is on another host
    frames     encode(message) -> pieces for sendmsg; Receiver: bytes in, messages out
    checks     whether fields are what a message's class says
    streams    many streams of messages over one connection
    handshake  two ends prove that they hold the same token, before they say anything else

A message is plain fields (JSON) and opaque blobs. Nothing here unpickles, so a frame from anybody can be read safely.
"""
