#!/bin/sh
# May no-exports use exports? No, and every step of the decision says why.
exec grpcurl -plaintext -d @ "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/CheckEntitlement <<'EOF'
{
  "tenant_id": "no-exports",
  "service": "reporting",
  "feature": "exports",
  "explain": true
}
EOF
