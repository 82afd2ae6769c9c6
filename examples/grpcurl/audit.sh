#!/bin/sh
# Who did what to acme.
exec grpcurl -plaintext -d '{"stream": {"kind": "STREAM_KIND_TENANT", "id": "acme"}}' "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.AuditService/ListAuditEvents
