<?php
// Everything that differs from one place to the next comes from the environment.
declare(strict_types=1);

function setting(string $name): string
{
    $value = getenv($name);
    if ($value !== false && $value !== '') {
        return $value;
    }
    $var = dirname(__DIR__) . '/var';
    return match ($name) {
        'TODO_URL' => 'http://127.0.0.1:8000',      // where browsers find this application
        'TODO_PUSH' => 'http://127.0.0.1:8080',     // where browsers, and PHP, find Longtail
        'TODO_REDIS' => 'redis://127.0.0.1:6379',
        'TODO_VAR' => $var,                         // sessions, and the SQLite file
        'TODO_DSN' => 'sqlite:' . setting('TODO_VAR') . '/todo.sqlite',
        // TODO_DB_USER, TODO_DB_PASSWORD; TODO_HOOK_SECRET, the file with the secret of Longtail's calls to hook.php
        default => '',
    };
}
