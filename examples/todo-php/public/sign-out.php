<?php
declare(strict_types=1);
require __DIR__ . '/../lib/app.php';

require_our_post();
session_start();
session_destroy();
setcookie(session_name(), '', ['expires' => 1, 'path' => '/', 'httponly' => true, 'samesite' => 'Lax']);
redirect('sign-in.php');
