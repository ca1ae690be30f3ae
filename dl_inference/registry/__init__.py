"""The registry: where endpoints announce themselves and releases are kept.

`schema` is what is written there, and knows no network; `zookeeper` is the connection; `announcing` is the side of
the servers, `following` that of the access services; `releases` is the side of those who decide which version gets
which share.
"""
