#!/bin/sh
# Walks the hash chains of all plans: no problems is good.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.AuditService/VerifyAudit <<'EOF'
{
  "stream": {"kind": "STREAM_KIND_PLAN"}
}
EOF
