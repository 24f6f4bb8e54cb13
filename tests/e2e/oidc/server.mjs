// A real OIDC server for the tests: panva's oidc-provider with client credentials and keys that can rotate.
// The client `robot` is an admin, `guest` is not, and what `hasty` gets is soon over. robot and the client that is
// called as the API is get ID tokens about any user by CIBA, for all users agree at once.
// What `secretive` gets is opaque; `asker` may ask what it means, and revoke it.
// PORT and ALG come from the environment. POST /test/rotate: a new key signs, the old ones stay listed.
// POST /test/withdraw: only the newest keys stay listed.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const alg = process.env.ALG ?? 'RS256';
const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  Ed25519: ['ed25519', {}],
};

function newKey(name) {
  const { privateKey } = generateKeyPairSync(...kinds[name]);
  return { ...privateKey.export({ format: 'jwk' }), alg: name, use: 'sig', kid: randomUUID() };
}

const freshKeys = () => Object.keys(kinds).map(newKey);

const api = 'https://api.example.test';
const ciba = 'urn:openid:params:grant-type:ciba';

const client = (id, grants = ['client_credentials']) => ({
  client_id: id,
  client_secret: 'a-secret-for-tests-only-0123456789',
  token_endpoint_auth_method: 'client_secret_post',
  grant_types: grants,
  redirect_uris: [],
  response_types: [],
  ...(grants.includes(ciba) && { backchannel_token_delivery_mode: 'poll', id_token_signed_response_alg: alg }),
});

const asker = { ...client('asker'), token_endpoint_auth_method: 'client_secret_basic' };
const machines = [client('guest'), client('hasty'), client('secretive'), asker];
const clients = [client('robot', ['client_credentials', ciba]), client(api, [ciba]), ...machines];

async function agree(ctx, request, account, { clientId }) {
  const { provider } = ctx.oidc;
  const grant = new provider.Grant({ clientId, accountId: account.accountId });
  grant.addOIDCScope('openid');
  await grant.save();
  await provider.backchannelResult(request, grant);
}

const backchannel = {
  enabled: true,
  processLoginHint: (_ctx, hint) => hint,
  validateRequestContext: () => {},
  verifyUserCode: () => {},
  triggerAuthenticationDevice: agree,
};

function resourceServer(_ctx, audience, { clientId }) {
  return {
    audience,
    scope: 'orders:read orders:write',
    accessTokenFormat: clientId === 'secretive' ? 'opaque' : 'jwt',
    accessTokenTTL: clientId === 'hasty' ? 3 : 300,
    jwt: { sign: { alg } },
  };
}

function configured(keys) {
  return new Provider(issuer, {
    jwks: { keys },
    scopes: ['orders:read', 'orders:write'],
    clients,
    findAccount: (_ctx, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    extraTokenClaims: (_ctx, { clientId }) => ({ roles: clientId === 'guest' ? [] : ['admin'], plan: 'pro' }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      ciba: backchannel,
      introspection: { enabled: true, allowedPolicy: (_ctx, { clientId }) => clientId === 'asker' },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => api,
        useGrantedResource: () => true,
        getResourceServerInfo: resourceServer,
      },
    },
  }).callback();
}

let keys = freshKeys();
let answer = configured(keys);

function reset(next, res) {
  keys = next;
  answer = configured(keys);
  res.end('ok');
}

createServer((req, res) => {
  if (req.url === '/test/rotate') return reset([...freshKeys(), ...keys], res);
  if (req.url === '/test/withdraw') return reset(keys.slice(0, Object.keys(kinds).length), res);
  return answer(req, res);
}).listen(port, '127.0.0.1');
