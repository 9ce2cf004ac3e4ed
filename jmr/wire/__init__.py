"""Bytes to messages and back, without I/O.

    messages   what coordinator, supervisor and slot say to each other
    frames     encode(message) -> pieces for sendmsg; Receiver: bytes in, messages out
    handshake  two ends prove that they hold the same token, before they say anything else

A message is plain fields (JSON) and opaque blobs. Nothing here unpickles, so a frame from anybody can be read safely.
"""
