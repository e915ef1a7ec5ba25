<?php
/**
 * Longtail for PHP: publish messages, sign tokens, and answer the questions that the server asks.
 *
 * This one file is all that you need: PHP 7.4 or newer, without extensions and without other packages. docs/php.md
 * shows how to use it.
 *
 *  - HttpPublisher publishes by POST /publish, and returns the cursor of the message.
 *  - RedisPublisher publishes through Redis.
 *  - Tokens signs the tokens with which browsers read and publish.
 *  - Authorizer answers the questions of `--authorize-url`: "may this user read board 12?"
 *  - Hook answers the calls of `--hook-url`: what the clients do. Signature checks who made a call.
 *
 * Wrong arguments throw InvalidArgumentException. A message that cannot be published throws PublishException.
 */
declare(strict_types=1);

namespace Longtail;

use InvalidArgumentException;
use JsonException;
use LogicException;
use RuntimeException;
use Throwable;

/** A message was not published, or it is unknown whether it was. The message of the exception says why. */
final class PublishException extends RuntimeException
{
    /** The server's code, such as `forbidden`; or `no_connection`, `no_answer`, `bad_answer` or `redis_error`. */
    public string $error;
    /** The status of the HTTP answer; 0 if there is none. */
    public int $status;
    /** Seconds after which it makes sense to try again; null if the same call will fail again. */
    public ?float $retryAfter;
    /** Whether the message may have been published. To repeat it safely, use the same `key`. */
    public bool $mayBePublished;

    public function __construct(string $error, string $why, int $status = 0, ?float $retryAfter = null, bool $mayBePublished = false)
    {
        parent::__construct($why, $status);
        $this->error = $error;
        $this->status = $status;
        $this->retryAfter = $retryAfter;
        $this->mayBePublished = $mayBePublished;
    }
}

/** Publishes over HTTP. The log has the message when a call returns. */
final class HttpPublisher
{
    private const HEAD_BYTES = 65536;
    private const ANSWER_BYTES = 4194304;
    /** The longest pause before another attempt, in seconds: a visitor waits for this page. */
    private const LONGEST_PAUSE = 2.0;

    private string $address;
    private string $host;
    private string $path;
    private ?string $key;
    /** @var array<string, mixed> */
    private array $options;

    /**
     * @param string $url where Longtail is, such as `http://127.0.0.1:8080`
     * @param string|null $key a server key of `--publish-key`, or a token; null if the server is open
     * @param array<string, mixed> $options `timeout`: seconds for all attempts together (10); `attempts`: how often
     *     a message is sent at most (3); `ssl`: PHP's SSL context options, such as
     *     `['cafile' => '/etc/ssl/our-ca.pem']`
     */
    public function __construct(string $url, ?string $key = null, array $options = [])
    {
        $parts = parse_url($url);
        $scheme = strtolower($parts['scheme'] ?? '');
        if (!isset($parts['host']) || ($scheme !== 'http' && $scheme !== 'https')
            || array_intersect_key($parts, ['user' => 1, 'pass' => 1, 'query' => 1, 'fragment' => 1])
            || preg_match('/[^\x21-\x7e]/', $url)) {
            throw new InvalidArgumentException('the URL has to be like http://127.0.0.1:8080, without user, password and query');
        }
        if ($key !== null && !preg_match('/^[\x21-\x7e]+$/D', $key)) {
            throw new InvalidArgumentException('the server key is empty, or has spaces or line breaks');
        }
        $port = $parts['port'] ?? ($scheme === 'https' ? 443 : 80);
        $this->address = ($scheme === 'https' ? 'tls://' : 'tcp://') . $parts['host'] . ':' . $port;
        $this->host = $parts['host'] . (isset($parts['port']) ? ':' . $port : '');
        $this->path = rtrim($parts['path'] ?? '', '/') . '/publish';
        $this->key = $key;
        $this->options = Check::options($options, ['timeout' => 10.0, 'attempts' => 3, 'ssl' => []]);
    }

    /**
     * Publishes a message to a channel. A reader of several of its channels gets it once.
     *
     * A message is repeated after a network failure or a 503, with the same idempotency key, so it is published at most
     * once. If you do not name a `key`, it gets a random one; `'key' => false` sends it without.
     *
     * @param string|string[] $channel one channel or several
     * @param mixed $data anything that json_encode() takes; an empty object is `(object) []`
     * @param array<string, mixed> $options `event`, `exclude` (the client id that does not get it), `except` (client
     *     ids and channels whose readers do not get it), `volatile`, `key`; `args` (a list of arguments) instead of
     *     data
     * @return string|null the cursor of the message; null for a volatile one
     */
    public function publish($channel, $data, array $options = []): ?string
    {
        return $this->publishAll([Message::of($channel, $data, $options, true)])[0];
    }

    /**
     * Publishes several messages, in this order: all, or none.
     *
     * @param array<int, array<string, mixed>> $messages each with `channel` (or `channels`), `data` (or `args`) and the
     *     options of publish()
     * @return array<int, string|null> their cursors
     */
    public function publishAll(array $messages): array
    {
        if ($messages === []) {
            return [];
        }
        $isRepeatable = true;
        foreach ($messages = array_values($messages) as $n => $message) {
            $message = Message::checked($message, true);
            // The server does not remember keys of volatile messages.
            if (!isset($message['key']) && empty($message['volatile'])) {
                $message['key'] = bin2hex(random_bytes(12));
            }
            if (empty($message['key'])) {
                unset($message['key']);
            }
            $isRepeatable = $isRepeatable && isset($message['key']) && empty($message['volatile']);
            $messages[$n] = $message;
        }
        $body = Message::json(count($messages) === 1 ? $messages[0] : $messages);
        $deadline = microtime(true) + $this->options['timeout'];
        for ($attempt = 1; ; $attempt++) {
            try {
                return $this->cursors($this->post($body, max(0.01, $deadline - microtime(true))), count($messages));
            } catch (PublishException $e) {
                $isSafe = $isRepeatable || !$e->mayBePublished;
                $isTemporary = $e->status === 0 || $e->status >= 502;
                $pause = max((float) $e->retryAfter, 0.05 * 2 ** $attempt) * random_int(100, 150) / 100;
                $pause = min($pause, self::LONGEST_PAUSE);
                $isTooLate = $attempt >= $this->options['attempts'] || microtime(true) + $pause >= $deadline;
                if (!$isSafe || !$isTemporary || $isTooLate) {
                    throw $e;
                }
                usleep((int) (1e6 * $pause));
            }
        }
    }

    /** @return array{0: int, 1: string, 2: string} status, head and body */
    private function post(string $body, float $timeout): array
    {
        $connection = new Connection($this->address, $timeout, $this->options['ssl']);
        $head = "POST {$this->path} HTTP/1.1\r\nHost: {$this->host}\r\nContent-Type: application/json\r\n"
            . 'Content-Length: ' . strlen($body) . "\r\nConnection: close\r\n"
            . ($this->key === null ? '' : "Authorization: Bearer {$this->key}\r\n");
        // A server that refuses a request before it has read it all closes the connection: its answer counts.
        $connection->write("$head\r\n$body");
        for ($answer = ''; ($bytes = $connection->read()) !== '';) {
            $answer .= $bytes;
            if (strlen($answer) > self::ANSWER_BYTES) {
                throw new PublishException('bad_answer', 'an endless answer', 0, null, true);
            }
        }
        do {
            $parts = explode("\r\n\r\n", $answer, 2);
            if (!isset($parts[1]) || strlen($parts[0]) > self::HEAD_BYTES || !preg_match('~^HTTP/1\.\d (\d{3})~', $answer, $found)) {
                throw new PublishException('no_answer', 'the connection ended without an answer in HTTP', 0, 0.0, true);
            }
            [$head, $answer] = $parts;
        } while ($found[1][0] === '1');
        $whole = $answer;
        if (preg_match('/^Transfer-Encoding:\s*chunked\s*$/im', $head)) {
            $whole = self::unchunked($answer);
        } elseif (preg_match('/^Content-Length:\s*(\d+)\s*$/im', $head, $length) && strlen($answer) < (int) $length[1]) {
            $whole = null;
        }
        if ($whole === null) {
            throw new PublishException('no_answer', 'the answer breaks off', 0, 0.0, true);
        }
        return [(int) $found[1], $head, $whole];
    }

    /** Joins the chunks of a body; null if the last one is missing. */
    private static function unchunked(string $body): ?string
    {
        $whole = '';
        for ($at = 0; preg_match('/\G([0-9a-f]{1,7})[^\r\n]*\r\n/i', $body, $found, 0, $at); $at += $length + 2) {
            $length = (int) hexdec($found[1]);
            $at += strlen($found[0]);
            if ($length === 0) {
                return $whole;
            }
            $whole .= substr($body, $at, $length);
        }
        return null;
    }

    /**
     * @param array{0: int, 1: string, 2: string} $answer
     * @return array<int, string|null>
     */
    private function cursors(array $answer, int $count): array
    {
        [$status, $head, $body] = $answer;
        $json = json_decode($body, true);
        $list = $json['messages'] ?? null;
        if ($status === 200 && is_array($list) && count($list) === $count) {
            return array_map(function ($entry): ?string {
                return $entry['id'] ?? null;
            }, $list);
        }
        $isTemporary = $status === 429 || $status >= 502;
        $retryAfter = preg_match('/^Retry-After:\s*(\d+)\s*$/im', $head, $found) ? (float) $found[1] : 1.0;
        $retryAfter = $isTemporary ? $retryAfter : null;
        if (is_string($json['error']['code'] ?? null) && is_string($json['error']['message'] ?? null)) {
            ['code' => $code, 'message' => $why] = $json['error'];
            throw new PublishException($code, $why, $status, $retryAfter, $code === 'outcome_unknown');
        }
        throw new PublishException('bad_answer', "status $status, and not an answer of Longtail", $status, $retryAfter, $status === 200 || $status >= 500);
    }
}

/** Publishes through Redis. Redis does not store the message: if no node of Longtail listens, it is lost. */
final class RedisPublisher
{
    /** A Redis client of another package; null if this class has a connection of its own. */
    private ?object $client = null;
    /** @var array<string, mixed> The parts of the URL. */
    private array $url = [];
    /** @var array<string, mixed> */
    private array $options;
    private ?Connection $connection = null;

    /**
     * @param string|object $redis `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`; `rediss://…` with TLS;
     *     `unix:///PATH?db=N&user=U&pass=P`; or an object with a method publish(), such as a client of Predis or
     *     phpredis
     * @param array<string, mixed> $options `prefix`: what stands before the channel, as in the server's
     *     `--redis-subscribe` (`push:`); `timeout`: seconds for one message (2); `ssl`: PHP's SSL context options
     */
    public function __construct($redis = 'redis://127.0.0.1:6379', array $options = [])
    {
        $this->options = Check::options($options, ['prefix' => 'push:', 'timeout' => 2.0, 'ssl' => []]);
        if (is_object($redis)) {
            if (!is_callable([$redis, 'publish'])) {
                throw new InvalidArgumentException(get_class($redis) . ' has no method publish()');
            }
            $this->client = $redis;
            return;
        }
        // parse_url() does not take a URL with an empty host.
        $parts = is_string($redis) ? parse_url(preg_replace('~^(redis\+)?unix://(?=/)~', 'unix://localhost', $redis)) : false;
        $scheme = $parts['scheme'] ?? '';
        $isSocket = $scheme === 'unix' && ($parts['path'] ?? '') !== '';
        if (!$isSocket && (!in_array($scheme, ['redis', 'rediss', 'tcp'], true) || !isset($parts['host']))) {
            throw new InvalidArgumentException('the URL of Redis has to be like redis://:password@127.0.0.1:6379/0');
        }
        parse_str($parts['query'] ?? '', $query);
        $database = $query['db'] ?? ($isSocket ? '' : trim($parts['path'] ?? '', '/'));
        if (!is_string($database) || !preg_match('/^\d{0,9}$/D', $database)) {
            throw new InvalidArgumentException('the database of Redis has to be a number');
        }
        $address = ($scheme === 'rediss' ? 'tls://' : 'tcp://') . ($parts['host'] ?? '') . ':' . ($parts['port'] ?? 6379);
        $this->url = [
            'address' => $isSocket ? 'unix://' . $parts['path'] : $address,
            'user' => rawurldecode($parts['user'] ?? '') ?: (string) ($query['user'] ?? ''),
            'password' => rawurldecode($parts['pass'] ?? '') ?: (string) ($query['pass'] ?? ''),
            'database' => (int) $database,
        ];
    }

    /**
     * Publishes a message. The arguments are those of HttpPublisher::publish(). With a `key`, the message is repeated
     * once after a network failure, and published at most once.
     *
     * @param string|string[] $channel
     * @param mixed $data
     * @param array<string, mixed> $options
     * @return int how many subscribers of Redis got it: 0 if no node of Longtail is there
     */
    public function publish($channel, $data, array $options = []): int
    {
        $message = Message::of($channel, $data, $options, false);
        $name = $message['channel'] ?? $message['channels'][0];
        unset($message['channel']);
        $payload = Message::json($message['data'] ?? null);
        // Data that looks like an envelope would be read as one.
        $isPlain = array_keys($message) === ['data'] && !preg_match('/^\{.*"(data|args)":/s', $payload);
        $payload = $isPlain ? $payload : Message::json($message);
        if ($this->client !== null) {
            return (int) $this->client->publish($this->options['prefix'] . $name, $payload);
        }
        for ($attempt = 1; ; $attempt++) {
            try {
                return $this->send(['PUBLISH', $this->options['prefix'] . $name, $payload]);
            } catch (PublishException $e) {
                $this->connection = null;
                if ($e->error === 'redis_error' || $attempt > 1 || ($e->mayBePublished && !isset($message['key']))) {
                    throw $e;
                }
            }
        }
    }

    /** @param string[] $words */
    private function send(array $words): int
    {
        // Redis, or a firewall, may have closed a connection that nobody used for a while.
        if ($this->connection !== null && $this->connection->isOpen()) {
            $this->connection->renew($this->options['timeout']);
            return $this->ask($words);
        }
        $this->connection = new Connection($this->url['address'], $this->options['timeout'], $this->options['ssl']);
        ['user' => $user, 'password' => $password, 'database' => $database] = $this->url;
        try {
            if ($password !== '') {
                $this->ask($user === '' ? ['AUTH', $password] : ['AUTH', $user, $password]);
            }
            if ($database !== 0) {
                $this->ask(['SELECT', (string) $database]);
            }
        } catch (PublishException $e) {
            $this->connection = null;
            throw new PublishException($e->error, $e->getMessage(), 0, $e->retryAfter);     // nothing was published
        }
        return $this->ask($words);
    }

    /**
     * Sends a command in RESP, and reads its reply of one line.
     *
     * @param string[] $words
     */
    private function ask(array $words): int
    {
        $command = '*' . count($words) . "\r\n";
        foreach ($words as $word) {
            $command .= '$' . strlen($word) . "\r\n$word\r\n";
        }
        $this->connection->write($command);
        for ($reply = ''; substr($reply, -2) !== "\r\n"; $reply .= $bytes) {
            $bytes = $this->connection->read();
            if ($bytes === '' || strlen($reply) > 4096) {
                throw new PublishException('no_answer', 'Redis has closed the connection', 0, 0.0, true);
            }
        }
        if ($reply[0] !== '+' && $reply[0] !== ':') {
            throw new PublishException('redis_error', 'Redis: ' . trim(substr($reply, 1)));
        }
        return (int) substr($reply, 1);
    }
}

/** Signs tokens with the secret of `--token-secret-file` (HS256). */
final class Tokens
{
    private string $secret;

    public function __construct(string $secret)
    {
        $this->secret = Check::secret($secret);
    }

    /** Reads the secret from a file, as the server does: without the line break at its end. */
    public static function fromFile(string $file): self
    {
        return new self(Check::secretFile($file));
    }

    /**
     * Signs a token.
     *
     * @param array<string, mixed> $claims `subscribe` and `publish`: lists of channels, where a `*` at the end matches
     *     any text; `sub`: the user's id; `client`: the only client id that may use the token; and others, such as
     *     `info`
     * @param int $ttl seconds for which the token is valid
     */
    public function sign(array $claims, int $ttl): string
    {
        if ($ttl <= 0) {
            throw new InvalidArgumentException('the ttl of a token has to be at least one second');
        }
        if (isset($claims['exp']) || isset($claims['aud'])) {
            throw new InvalidArgumentException('leave out exp, which follows from the ttl, and aud, which the server refuses');
        }
        foreach (['subscribe', 'publish'] as $list) {
            if (isset($claims[$list])) {
                $claims[$list] = Check::texts($list, $claims[$list]);
            }
        }
        foreach (['sub', 'client'] as $text) {
            if (isset($claims[$text])) {
                $claims[$text] = Check::id($text, $claims[$text]);
            }
        }
        $claims = array_filter($claims, function ($value): bool {
            return $value !== null;
        });
        $part = function (string $text): string {
            return rtrim(strtr(base64_encode($text), '+/', '-_'), '=');
        };
        $head = $part('{"alg":"HS256","typ":"JWT"}') . '.' . $part(Message::json($claims + ['exp' => time() + $ttl]));
        $token = $head . '.' . $part(hash_hmac('sha256', $head, $this->secret, true));
        if (strlen($token) > 8192) {
            throw new InvalidArgumentException('a token has at most 8 KiB: name fewer channels, or use patterns');
        }
        return $token;
    }
}

/** The signature of a call of the hook: `Longtail-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`. */
final class Signature
{
    /**
     * The reason why a signature is not good, or null if it is. Several secrets: while you change the secret, the old
     * one and the new one count.
     *
     * @param string|string[] $secrets
     * @param int $tolerance how many seconds the time of the signature may be away from now
     */
    public static function problem(string $header, string $body, $secrets, int $tolerance = 300, ?int $now = null): ?string
    {
        $time = null;
        $signatures = [];
        foreach (array_slice(explode(',', $header), 0, 20) as $field) {
            [$name, $value] = explode('=', trim($field), 2) + [1 => ''];
            if ($name === 't' && preg_match('/^\d{1,12}$/D', $value)) {
                $time = $value;
            } elseif ($name === 'v1') {
                $signatures[] = $value;
            }
        }
        if ($time === null || $signatures === []) {
            return 'there is no signature of the form t=…,v1=…';
        }
        $isGood = false;
        foreach ((array) $secrets as $secret) {
            $right = hash_hmac('sha256', "$time.$body", Check::secret($secret));
            foreach ($signatures as $signature) {
                // In constant time, and without an early end: the time does not tell which part was right.
                $isGood = hash_equals($right, $signature) || $isGood;
            }
        }
        if (!$isGood) {
            return 'the signature is not that of the body';
        }
        // The body of an old call may be sent again by a stranger that has seen it.
        return abs(($now ?? time()) - (int) $time) > $tolerance ? "the signature is more than $tolerance s old, or a clock is wrong" : null;
    }

    /** The header for a body, for tests of your own hook. */
    public static function header(string $body, string $secret, ?int $time = null): string
    {
        $time = $time ?? time();
        return "t=$time,v1=" . hash_hmac('sha256', "$time.$body", Check::secret($secret));
    }
}

/** What the addresses that Longtail calls have in common: they read one JSON object and write one. */
abstract class Endpoint
{
    private const BODY_BYTES = 4194304;

    /**
     * @param array<string, mixed> $call
     * @return array{0: int, 1: string} status and body
     */
    abstract protected function answer(array $call): array;

    /** Why the call is not answered; null if it is. */
    protected function problem(string $body, string $signature): ?string
    {
        return null;
    }

    /** Answers the request that this script was called with. Call it last: the script should print nothing else. */
    public function run(): void
    {
        $body = (string) file_get_contents('php://input', false, null, 0, self::BODY_BYTES + 1);
        // A handler that calls exit() fails. With the status 200 it would look like one that has nothing to say.
        http_response_code(500);
        [$status, $answer] = $this->respond($_SERVER['REQUEST_METHOD'] ?? '', $body, $_SERVER['HTTP_LONGTAIL_SIGNATURE'] ?? '');
        http_response_code($status);
        header('Cache-Control: no-store');
        if ($status === 405) {
            header('Allow: POST');
        }
        if ($answer !== '') {
            header('Content-Type: application/json');
            echo $answer;
        }
    }

    /**
     * Answers a request, for an application with a framework of its own.
     *
     * @param string $signature the header Longtail-Signature; empty if there is none
     * @return array{0: int, 1: string} the status and the JSON body, which may be empty
     */
    final public function respond(string $method, string $body, string $signature = ''): array
    {
        $refuse = function (int $status, string $why): array {
            return [$status, Message::json(['error' => $why])];
        };
        if ($method !== 'POST') {
            return $refuse(405, 'send a POST');
        }
        if (strlen($body) > self::BODY_BYTES) {
            return $refuse(413, 'the body is too large');
        }
        $problem = $this->problem($body, $signature);
        if ($problem !== null) {
            error_log('Longtail: a call is refused: ' . $problem);
            return $refuse(401, $problem);
        }
        $call = json_decode($body, true, 512, JSON_BIGINT_AS_STRING);
        if (!is_array($call) || $body[strspn($body, " \t\r\n")] !== '{') {
            return $refuse(400, 'the body is not a JSON object');
        }
        // A warning in front of the JSON would make it unreadable.
        ob_start();
        try {
            return $this->answer($call);
        } catch (Throwable $e) {
            error_log('Longtail: ' . $e);
            return $refuse(500, 'the application failed');
        } finally {
            $printed = trim((string) ob_get_clean());
            if ($printed !== '') {
                error_log('Longtail: a handler printed: ' . substr($printed, 0, 500));
            }
        }
    }
}

/**
 * A question of `--authorize-url`: may this user subscribe or publish to these channels? The cookie is in `$_COOKIE`.
 */
final class Question
{
    /** `subscribe` or `publish`. */
    public string $action;
    /** @var string[] The channels that the client names. */
    public array $channels;
    public ?string $client;
    public ?string $transport;
    public ?string $ip;
    public ?string $origin;

    /** @param array<string, mixed> $call */
    public function __construct(array $call)
    {
        $this->action = (string) Check::text($call, 'action');
        $this->channels = array_values(array_filter((array) ($call['channels'] ?? []), 'is_string'));
        $this->client = Check::text($call, 'client');
        $this->transport = Check::text($call, 'transport');
        $this->ip = Check::text($call, 'ip');
        $this->origin = Check::text($call, 'origin');
    }
}

/** Answers the questions of `--authorize-url`. */
final class Authorizer extends Endpoint
{
    private const CHANNELS = 10000;

    /** @var callable */
    private $decide;
    private int $ttl;
    /** @var callable|null */
    private $identify = null;

    /**
     * @param callable $decide takes a Question and returns the channels that this user may have (`[]` refuses), or null
     *     if nobody is signed in
     * @param int $ttl seconds until the server asks again, 1 to 86400
     */
    public function __construct(callable $decide, int $ttl = 60)
    {
        if ($ttl < 1 || $ttl > 86400) {
            throw new InvalidArgumentException('the ttl of an answer is 1 to 86400 seconds');
        }
        $this->decide = $decide;
        $this->ttl = $ttl;
    }

    /**
     * Names the user, for channels with presence.
     *
     * @param callable $identify takes a Question and returns `['id' => 7, 'info' => …]`, or null; `info` is what other
     *     members may know, such as a name, and may be absent
     */
    public function identify(callable $identify): self
    {
        $this->identify = $identify;
        return $this;
    }

    protected function answer(array $call): array
    {
        $question = new Question($call);
        // The server asks for at most 100 channels, unless --max-channels says otherwise.
        if ($question->channels === [] || count($question->channels) > self::CHANNELS || !in_array($question->action, ['subscribe', 'publish'], true)) {
            return [400, Message::json(['error' => 'this is not a question of Longtail'])];
        }
        $allowed = ($this->decide)($question);
        if ($allowed === null) {
            return [401, Message::json(['error' => 'nobody is signed in', 'channels' => []])];
        }
        // Only channels of the question count, and a channel that was not asked for hides a mistake.
        $allowed = array_intersect($question->channels, Check::texts('the decision', $allowed));
        $fields = ['channels' => array_values($allowed), 'ttl' => $this->ttl];
        $user = $this->identify === null ? null : ($this->identify)($question);
        if ($user !== null) {
            $fields['user'] = ['id' => Check::id('the id of the user', $user['id'] ?? null)] + array_intersect_key($user, ['info' => 1]);
        }
        return [200, Message::json($fields)];
    }
}

/** Answers the calls of `--hook-url`: hands each call to its handler, and writes the answer. */
final class Hook extends Endpoint
{
    /** @var string[]|null */
    private ?array $secrets;
    private int $tolerance;
    /** @var array<string, array<string, callable>> By type, then by name. */
    private array $handlers = [];

    /**
     * @param string|string[]|null $secrets the secret of `--hook-secret-file`, or the old one and the new one; null if
     *     calls are not signed, so that everybody who reaches this address can pretend to be Longtail
     * @param int $tolerance how old a call may be, in seconds
     */
    public function __construct($secrets, int $tolerance = 300)
    {
        $this->secrets = $secrets === null ? null : array_map([Check::class, 'secret'], array_values((array) $secrets));
        if ($this->secrets === []) {
            throw new InvalidArgumentException('the list of secrets is empty');
        }
        $this->tolerance = $tolerance;
    }

    /** Reads the secret from a file, as the server does: without the line break at its end. */
    public static function fromSecretFile(string $file): self
    {
        return new self(Check::secretFile($file));
    }

    /**
     * Handles the events of this name; `*`: all other events. An event without a handler is answered with an error.
     *
     * @param callable $handler takes an Event and an Answer, which it fills
     */
    public function on(string $event, callable $handler): self
    {
        return $this->handle('event', $event, $handler);
    }

    /** Handles new connections. Without a handler, they are accepted. */
    public function onConnect(callable $handler): self
    {
        return $this->handle('connect', '*', $handler);
    }

    /** Handles the client's answer to what Answer::ask() sent with this name; `*`: all other answers. */
    public function onAck(string $ref, callable $handler): self
    {
        return $this->handle('ack', $ref, $handler);
    }

    public function onDisconnect(callable $handler): self
    {
        return $this->handle('disconnect', '*', $handler);
    }

    /** Handles `occupied`, `vacated`, `member_added` or `member_removed`. */
    public function onChannel(string $type, callable $handler): self
    {
        if (!in_array($type, ['occupied', 'vacated', 'member_added', 'member_removed'], true)) {
            throw new InvalidArgumentException('the type is occupied, vacated, member_added or member_removed');
        }
        return $this->handle($type, '*', $handler);
    }

    private function handle(string $type, string $name, callable $handler): self
    {
        $this->handlers[$type][$name] = $handler;
        return $this;
    }

    protected function problem(string $body, string $signature): ?string
    {
        return $this->secrets === null ? null : Signature::problem($signature, $body, $this->secrets, $this->tolerance);
    }

    protected function answer(array $call): array
    {
        $event = new Event($call);
        if ($event->type === '' || ($event->type === 'event' && $event->event === '')) {
            return [400, Message::json(['error' => 'this is not a call of Longtail'])];
        }
        $answer = new Answer();
        $handlers = $this->handlers[$event->type] ?? [];
        $name = $event->type === 'ack' ? $event->ref : $event->event;
        $handler = $handlers[$name] ?? $handlers['*'] ?? null;
        if ($handler !== null) {
            $handler($event, $answer);
        } elseif ($event->type === 'event') {
            $answer->refuse('there is no such event');
        }
        $json = $answer->json();
        return [$json === '' ? 204 : 200, $json];
    }
}

/** What a client did. A repeated call has the same id. The client's cookies are in `$_COOKIE`. */
final class Event
{
    public string $id;
    /** `connect`, `event`, `ack`, `disconnect`, or a type of Hook::onChannel(). */
    public string $type;
    /** `longtail`, `socket.io`, `sockjs`, `websocket` or `stomp`. */
    public string $protocol;
    /** The client's session, which is secret; null if it has none. Without a session, an answer cannot join or send. */
    public ?string $session;
    public ?string $client;
    /** The namespace or path. */
    public string $endpoint;
    /** @var array<string, mixed>|null `id` and perhaps `info`, as Answer::user() or the token said. */
    public ?array $user;
    /** @var mixed What Answer::data() said. */
    public $data;
    /** @var string[] What the session reads. */
    public array $channels;
    /** The event's name; empty for other types. */
    public string $event;
    /** @var array<int, mixed> The arguments; binary ones are of class Binary. */
    public array $args;
    /** Whether the client waits for Answer::ack(). */
    public bool $wantsAck;
    /** The channel that the client named, or that the call is about. */
    public ?string $channel;
    /** Of an ack: the name that Answer::ask() gave. */
    public string $ref;
    /** Of a disconnect. */
    public ?string $reason;
    /** @var array<string, mixed> The whole call: of a connect also `ip`, `origin`, `transport`, `query`, `auth`. */
    public array $call;

    /** @param array<string, mixed> $call */
    public function __construct(array $call)
    {
        $this->id = (string) Check::text($call, 'id');
        $this->type = (string) Check::text($call, 'type');
        $this->protocol = (string) Check::text($call, 'protocol');
        $this->session = Check::text($call, 'session');
        $this->client = Check::text($call, 'client');
        $this->endpoint = Check::text($call, 'endpoint') ?? '/';
        $this->user = is_array($call['user'] ?? null) ? $call['user'] : null;
        $this->data = $call['data'] ?? null;
        $this->channels = array_values(array_filter((array) ($call['channels'] ?? []), 'is_string'));
        $this->event = (string) Check::text($call, 'event');
        $this->args = Binary::read(array_values((array) ($call['args'] ?? [])));
        $this->wantsAck = ($call['ack'] ?? false) === true;
        $this->channel = Check::text($call, 'channel');
        $this->ref = (string) Check::text($call, 'ref');
        $this->reason = Check::text($call, 'reason');
        $this->call = $call;
    }

    /** The user's id; null if nobody is signed in. */
    public function userId(): ?string
    {
        return $this->user === null ? null : Check::text($this->user, 'id');
    }
}

/** What happens next. An answer that says nothing accepts the connection, and acknowledges nothing. */
final class Answer
{
    /** For `exclude`: the client that sent the event. */
    public const SELF = 'self';
    private const ITEMS = 100;
    private const BYTES = 1048576;

    /** @var array<string, mixed> */
    private array $fields = [];

    /**
     * Answers the client's callback with these arguments.
     *
     * @param mixed ...$args
     */
    public function ack(...$args): self
    {
        $this->fields['ack'] = $args;
        return $this;
    }

    /**
     * Publishes a message. The arguments are those of HttpPublisher::publish(); `'exclude' => Answer::SELF` leaves out
     * the sender.
     *
     * @param string|string[] $channel
     * @param mixed $data
     * @param array<string, mixed> $options
     */
    public function publish($channel, $data, array $options = []): self
    {
        return $this->add('publish', Message::of($channel, $data, $options, false));
    }

    /**
     * Sends an event to this session alone, after the joins.
     *
     * @param mixed ...$args
     */
    public function send(string $event, ...$args): self
    {
        return $this->add('send', ['event' => $event, 'args' => $args]);
    }

    /**
     * Sends an event, and asks for an answer: it comes to the handler of Hook::onAck() with this name.
     *
     * @param mixed ...$args
     */
    public function ask(string $event, string $ref, ...$args): self
    {
        return $this->add('send', ['event' => $event, 'args' => $args, 'ack' => $ref]);
    }

    /** The session reads these channels from now on. The access rules do not apply. */
    public function join(string ...$channels): self
    {
        return $this->add('join', ...$channels);
    }

    public function leave(string ...$channels): self
    {
        return $this->add('leave', ...$channels);
    }

    /** The same as join() for rooms of the caller's namespace. */
    public function joinRooms(string ...$rooms): self
    {
        return $this->add('rooms', ...$rooms);
    }

    public function leaveRooms(string ...$rooms): self
    {
        return $this->add('leave_rooms', ...$rooms);
    }

    /**
     * Refuses the connection, or answers the event with an error.
     *
     * @param mixed $data
     */
    public function refuse(string $message, $data = null): self
    {
        $this->fields['refuse'] = ['message' => $message] + ($data === null ? [] : ['data' => $data]);
        return $this;
    }

    /**
     * Says who the client is.
     *
     * @param string|int $id
     * @param mixed $info what other members may know, such as a name
     */
    public function user($id, $info = null): self
    {
        $this->fields['user'] = ['id' => Check::id('the id of the user', $id)] + ($info === null ? [] : ['info' => $info]);
        return $this;
    }

    /**
     * Keeps something for the next calls of this session: at most 4 KiB.
     *
     * @param mixed $data
     */
    public function data($data): self
    {
        $this->fields['data'] = $data;
        return $this;
    }

    /** Seconds until Longtail asks again, by a call of type connect. */
    public function ttl(int $seconds): self
    {
        if ($seconds <= 0) {
            throw new InvalidArgumentException('the ttl has to be at least one second');
        }
        $this->fields['ttl'] = $seconds;
        return $this;
    }

    /** Ends the connection; with `namespace`, only that of the caller's namespace. */
    public function disconnect(string $what = 'transport'): self
    {
        if ($what !== 'transport' && $what !== 'namespace') {
            throw new InvalidArgumentException('a disconnect is of the transport or of the namespace');
        }
        $this->fields['disconnect'] = $what;
        return $this;
    }

    /** The answer in JSON; empty if it says nothing. */
    public function json(): string
    {
        $lists = array_intersect_key($this->fields, array_flip(['join', 'leave', 'rooms', 'leave_rooms', 'send', 'publish']));
        $items = array_sum(array_map('count', $lists));
        $json = $this->fields === [] ? '' : Message::json($this->fields);
        if ($items > self::ITEMS || strlen($json) > self::BYTES) {
            throw new LogicException('an answer has at most 100 items and 1 MiB: publish the rest by HTTP or Redis');
        }
        return $json;
    }

    /** @param mixed ...$items */
    private function add(string $list, ...$items): self
    {
        $this->fields[$list] = array_merge($this->fields[$list] ?? [], $items);
        return $this;
    }
}

/** Bytes among the arguments of an event, in both directions: `{"$binary":"<base64>"}` in JSON. */
final class Binary implements \JsonSerializable
{
    public string $bytes;

    public function __construct(string $bytes)
    {
        $this->bytes = $bytes;
    }

    /** @return array<string, string> */
    public function jsonSerialize(): array
    {
        return ['$binary' => base64_encode($this->bytes)];
    }

    /**
     * Replaces bytes in a decoded JSON value by objects of this class.
     *
     * @param mixed $value
     * @return mixed
     */
    public static function read($value)
    {
        if (!is_array($value)) {
            return $value;
        }
        $text = count($value) === 1 ? ($value['$binary'] ?? null) : null;
        $bytes = is_string($text) ? base64_decode($text, true) : false;
        return is_string($bytes) ? new self($bytes) : array_map([self::class, 'read'], $value);
    }
}

/** @internal A publish object: its fields and its JSON. */
final class Message
{
    private const FIELDS = ['channel', 'channels', 'event', 'data', 'args', 'exclude', 'except', 'volatile', 'key'];

    /**
     * @param string|string[] $channel
     * @param mixed $data
     * @param array<string, mixed> $options
     * @return array<string, mixed>
     */
    public static function of($channel, $data, array $options, bool $maySkipKey): array
    {
        if (array_intersect_key($options, ['channel' => 1, 'channels' => 1, 'data' => 1])) {
            throw new InvalidArgumentException('the channel and the data are arguments, and not options');
        }
        $content = isset($options['args']) && $data === null ? [] : ['data' => $data];
        return self::checked([is_array($channel) ? 'channels' : 'channel' => $channel] + $content + $options, $maySkipKey);
    }

    /**
     * Checks the fields, and leaves out those that say nothing.
     *
     * @param mixed $message
     * @return array<string, mixed>
     */
    public static function checked($message, bool $maySkipKey): array
    {
        $unknown = is_array($message) ? array_diff(array_keys($message), self::FIELDS) : ['a message that is not an array'];
        if ($unknown !== []) {
            throw new InvalidArgumentException('a message has no field ' . implode(', ', $unknown) . '; it has ' . implode(', ', self::FIELDS));
        }
        foreach ($message as $field => $value) {
            $isEmpty = $value === null || ($field === 'except' && $value === []) || ($field === 'volatile' && $value === false);
            if ($field === 'data') {
                continue;
            } elseif ($isEmpty) {
                unset($message[$field]);
            } elseif ($field === 'channels' || $field === 'except') {
                $message[$field] = Check::texts($field, $value);
            } elseif ($field === 'args') {
                $message[$field] = is_array($value) ? array_values($value) : self::wrong($field, 'a list');
            } elseif ($field === 'volatile') {
                $value === true || self::wrong($field, 'true or false');
            } elseif (!($field === 'key' && $value === false && $maySkipKey)) {
                (is_string($value) && $value !== '') || self::wrong($field, 'a text that is not empty');
            }
        }
        if (isset($message['channel']) === isset($message['channels']) || ($message['channels'] ?? null) === []) {
            throw new InvalidArgumentException('name a channel, or a list of channels');
        }
        if (array_key_exists('data', $message) === isset($message['args'])) {
            throw new InvalidArgumentException('a message has either data or args');
        }
        return $message;
    }

    private static function wrong(string $field, string $kind): bool
    {
        throw new InvalidArgumentException("$field has to be $kind");
    }

    /** @param mixed $value */
    public static function json($value): string
    {
        try {
            return json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION);
        } catch (JsonException $e) {
            throw new InvalidArgumentException('this cannot be written as JSON: ' . $e->getMessage(), 0, $e);
        }
    }
}

/** @internal Checks of arguments. */
final class Check
{
    /**
     * The options, or their defaults.
     *
     * @param array<string, mixed> $options
     * @param array<string, mixed> $defaults
     * @return array<string, mixed>
     */
    public static function options(array $options, array $defaults): array
    {
        $unknown = array_diff_key($options, $defaults);
        if ($unknown !== []) {
            throw new InvalidArgumentException('there is no option ' . implode(', ', array_keys($unknown)) . '; there are ' . implode(', ', array_keys($defaults)));
        }
        foreach ($options as $name => $value) {
            $isNumber = is_int($value) || is_float($value);
            $isGood = is_array($defaults[$name]) ? is_array($value) : (is_string($defaults[$name]) ? is_string($value) : $isNumber && $value > 0);
            if (!$isGood) {
                throw new InvalidArgumentException("the option $name is of the wrong type, or not positive");
            }
        }
        return $options + $defaults;
    }

    /** @param mixed $secret */
    public static function secret($secret): string
    {
        if (!is_string($secret) || $secret === '') {
            throw new InvalidArgumentException('the secret is empty; `openssl rand -hex 32` makes one');
        }
        return $secret;
    }

    public static function secretFile(string $file): string
    {
        $secret = @file_get_contents($file);
        if ($secret === false) {
            throw new InvalidArgumentException("the secret in $file cannot be read");
        }
        return self::secret(preg_replace('/\r?\n\z/', '', $secret));
    }

    /**
     * @param mixed $list
     * @return string[]
     */
    public static function texts(string $name, $list): array
    {
        if (!is_array($list) || array_filter($list, 'is_string') !== $list) {
            throw new InvalidArgumentException("$name has to be a list of texts");
        }
        return array_values($list);
    }

    /** @param mixed $id a text, or a number of a database */
    public static function id(string $name, $id): string
    {
        if ((!is_string($id) && !is_int($id)) || strlen((string) $id) < 1 || strlen((string) $id) > 200) {
            throw new InvalidArgumentException("$name has to be a text of 1 to 200 bytes, or a number");
        }
        return (string) $id;
    }

    /**
     * A field of a call, if it is a text.
     *
     * @param array<string, mixed> $call
     */
    public static function text(array $call, string $name): ?string
    {
        return is_string($call[$name] ?? null) ? $call[$name] : null;
    }
}

/** @internal A connection over TCP, TLS or a Unix socket. All of its waits together have one deadline. */
final class Connection
{
    /** @var resource */
    private $stream;
    private float $deadline = 0.0;

    /** @param array<string, mixed> $ssl */
    public function __construct(string $address, float $timeout, array $ssl)
    {
        $this->renew($timeout);
        $why = '';
        // The reason why TLS fails is in the first of several warnings.
        set_error_handler(function (int $level, string $text) use (&$why): bool {
            $why = $why ?: preg_replace('/^[a-z_]+\(\): /', '', strtok($text, "\n")) . ' ' . strtok('');
            return true;
        });
        try {
            $context = stream_context_create(['ssl' => $ssl]);
            $stream = stream_socket_client($address, $code, $text, $timeout, STREAM_CLIENT_CONNECT, $context);
        } finally {
            restore_error_handler();
        }
        if ($stream === false) {
            throw new PublishException('no_connection', "no connection to $address: " . trim($text ?: $why), 0, 0.0);
        }
        stream_set_blocking($stream, false);
        $this->stream = $stream;
    }

    /** Begins a new exchange of at most `$timeout` seconds. */
    public function renew(float $timeout): void
    {
        $this->deadline = microtime(true) + $timeout;
    }

    /** Whether the other side has neither closed the connection nor sent something that nobody has asked for. */
    public function isOpen(): bool
    {
        return (string) @fread($this->stream, 1) === '' && !feof($this->stream);
    }

    /** Writes bytes, as far as the other side takes them. */
    public function write(string $bytes): void
    {
        while ($bytes !== '') {
            $sent = @fwrite($this->stream, $bytes);
            if ($sent === false || ($sent === 0 && feof($this->stream))) {
                return;
            }
            $bytes = substr($bytes, $sent);
            if ($sent === 0) {
                $this->wait(false);
            }
        }
    }

    /** Reads some bytes; empty at the end of the connection. */
    public function read(): string
    {
        // Bytes that TLS has decrypted already are not visible to stream_select(): read first, then wait.
        while (($bytes = (string) @fread($this->stream, 65536)) === '' && !feof($this->stream)) {
            $this->wait(true);
        }
        return $bytes;
    }

    private function wait(bool $toRead): void
    {
        $left = $this->deadline - microtime(true);
        if ($left <= 0) {
            throw new PublishException('no_answer', 'no answer in time', 0, 0.0, true);
        }
        $read = $toRead ? [$this->stream] : [];
        $write = $toRead ? [] : [$this->stream];
        $except = [];
        if (@stream_select($read, $write, $except, (int) $left, (int) (fmod($left, 1.0) * 1e6)) === false) {
            usleep(10000);      // a signal
        }
    }
}
