#!/bin/sh
# As new as everything committed before the question. The tenant is in grace: the answer says until when.
exec grpcurl -plaintext -d @ "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/CheckEntitlement <<'EOF'
{
  "tenant_id": "late-payer",
  "service": "reporting",
  "feature": "exports",
  "consistency": {"fully_consistent": {}}
}
EOF
